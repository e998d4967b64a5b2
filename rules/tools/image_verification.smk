# Decodes every image, and checks its hash and size; corrupted ones go, and are fetched again.


rule image_verification:
    input:
        ran_tool("image_verification"),
    localrule: True
