# Groups images that look alike, by a perceptual hash of each.


rule near_duplicates:
    input:
        ran_tool("near_duplicates"),
    localrule: True
