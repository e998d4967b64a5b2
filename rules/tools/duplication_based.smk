# Of images that were received twice, byte for byte, the first stays.


rule duplication_based:
    input:
        ran_tool("duplication_based"),
    localrule: True
