# One job is one cell of the grid, with all its seeds.

# A record's name carries the digest of all that decides it, so a record that is there is right, and
# no rule makes it: neither file times nor lost data nor lost metadata can have it trained again.
# Delete it, or say --forceall, to have that.
UNTRAINED = [
    key
    for key, cell in CELLS.items()
    if not cell.record.exists() or {"--forceall", "-F"} & set(sys.argv)
]


rule train:
    input:
        dataset=lambda wildcards: CELLS[wildcards.cell].dataset.path,
        noise=lambda wildcards: [
            noise.path for noise in [CELLS[wildcards.cell].noise] if noise
        ],
    output:
        grid.RECORDS / "{cell}.json",
    log:
        "logs/train/{cell}.log",
    wildcard_constraints:
        cell="|".join(map(re.escape, UNTRAINED)) or "(?!)",
    conda:
        "../envs/imcl.yaml"
    threads: 1
    params:
        study=STUDY,
    message:
        "train {wildcards.cell}"
    shell:
        "python -m imcl train --study {params.study:q} --threads {threads} {wildcards.cell:q}"
        " > {log:q} 2>&1"


rule records:
    input:
        [cell.record for cell in CELLS.values()],
