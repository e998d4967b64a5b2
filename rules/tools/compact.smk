# Reclaims the bytes of removed images; they cannot be restored after it.


rule compact:
    input:
        ran_tool("compact"),
    localrule: True
