# Plain image files, a folder for each partition.


rule export_files:
    input:
        ran_tool("export_files"),
    localrule: True
