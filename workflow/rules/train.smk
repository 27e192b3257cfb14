# One job is one cell of the grid, with all its seeds.


rule train:
    input:
        # The digest in the record's name says what it was trained on; file times say nothing.
        dataset=lambda wildcards: ancient(CELLS[wildcards.cell].dataset.path),
        noise=lambda wildcards: [
            ancient(noise.path) for noise in [CELLS[wildcards.cell].noise] if noise
        ],
    output:
        grid.RECORDS / "{cell}.json",
    log:
        "logs/train/{cell}.log",
    wildcard_constraints:
        cell="|".join(map(re.escape, CELLS)),
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
