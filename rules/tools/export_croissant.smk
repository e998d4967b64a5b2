# Croissant 1.0 metadata: croissant.json at the dataset's root.


rule export_croissant:
    input:
        ran_tool("export_croissant"),
    localrule: True
