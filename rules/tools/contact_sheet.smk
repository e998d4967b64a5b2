# A JPEG of sampled thumbnails for each server.


rule contact_sheet:
    input:
        ran_tool("contact_sheet"),
    localrule: True
