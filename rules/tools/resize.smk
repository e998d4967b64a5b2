# Images of new_resize_size pixels at most: a folder of their own, or in place.


rule resize:
    input:
        ran_tool("resize"),
    localrule: True
