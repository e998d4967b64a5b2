# A wave: one MPI job over what is left. Images are never a declared output: Snakemake deletes the
# outputs of a job that failed. What is declared only says how far the wave came.


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
        **SITE,
        mpi="mpiexec",
        tasks=planned_tasks,
        nodes=planned_nodes,
        cpus_per_task=SETTINGS.cpu_per_worker,
        mem_mb_per_cpu=-(-RANK_MB // SETTINGS.cpu_per_worker),
        slurm_extra=planned_spread,
    params:
        variables=variables("download"),
        python=PYTHON,
        script=SCRIPTS / "download_images.py",
        config=CONFIG_PATH,
        runtime_min=runtime_min,
    message:
        "Wave {wildcards.wave}: downloading with {resources.tasks} ranks"
    shell:
        "exec env {params.variables} SRUN_CPUS_PER_TASK={resources.cpus_per_task}"
        " {resources.mpi} -n {resources.tasks} {params.python} -m mpi4py {params.script}"
        " --config {params.config:q} --log {log:q} --wave {wildcards.wave}"
        " --ranks {resources.tasks} --runtime-min {params.runtime_min}"


def waves(wildcards):
    """Ask for one wave after the other while the live state says that one is due."""
    done, wave = [], FIRST_WAVE
    while next_wave_is_due(OUT, SETTINGS, first=FIRST_WAVE, wave=wave):
        done.append(checkpoints.download_images.get(wave=wave).output.progress)
        wave += 1
    return done
