# Tar shards with a JSON of each row, for the webdataset library.


rule export_webdataset:
    input:
        ran_tool("export_webdataset"),
    localrule: True
