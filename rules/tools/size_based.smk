# Images whose original's shorter side is under tools_parameters.threshold_size go.


rule size_based:
    input:
        ran_tool("size_based"),
    localrule: True
