# A wave: one MPI job over what is left. Images are never a declared output: Snakemake deletes the
# outputs of a job that failed. What is declared only says how far the wave came.


def decoder_mb():
    """What one of a rank's decoders may take at most, its own 60 MB and some air included."""
    return 100 + SETTINGS.images.max_decoder_bytes // 10**6


checkpoint download_images:
    input:
        plan=rules.schedule_wave.output.plan,
        schedule=rules.schedule_wave.output.schedule,
    output:
        progress=OUT.schedules / "{wave}" / "progress.json",
        learned=OUT.schedules / "{wave}" / "learned.parquet",
    log:
        OUT.logs / "download" / "{wave}" / "rank-0.log",
    benchmark:
        OUT.logs / "download" / "{wave}" / "benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **mpi_resources(
            cpus=SETTINGS.cpu_per_worker,
            # under 600 MB, its decoders, and on the first node what starts the ranks
            rank_mb=800 + decoder_mb() * SETTINGS.cpu_per_worker,
        ),
    params:
        variables=variables("download"),
        python=PYTHON,
        script=SCRIPTS / "download_images.py",
        config=CONFIG_PATH,
        runtime_min=runtime_min,
    message:
        "Wave {wildcards.wave}: downloading with {resources.tasks} ranks"
    shell:
        START_RANKS
        + " --config {params.config:q} --log {log:q} --wave {wildcards.wave}"
        " --ranks {resources.tasks} --runtime-min {params.runtime_min}"


def waves(wildcards):
    """Ask for one wave after the other while the live state says that one is due."""
    list_of_now(wildcards)
    done, wave = [], FIRST_WAVE
    while next_wave_is_due(OUT, SETTINGS, first=FIRST_WAVE, wave=wave):
        done.append(checkpoints.download_images.get(wave=wave).output.progress)
        wave += 1
    return done
