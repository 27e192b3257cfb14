# One job is one cell of the grid, with all its seeds.


rule train:
    input:
        dataset=lambda wildcards: cell_of(wildcards).dataset.path,
        noise=lambda wildcards: [
            noise.path for noise in [cell_of(wildcards).noise] if noise
        ],
    output:
        grid.RECORDS / "{cell}.json",
    log:
        "logs/train/{cell}.log",
    wildcard_constraints:
        cell=trainable(),
    conda:
        "../envs/imcl.yaml"
    threads: 1  # two cells in one thread each are done before one after the other in two
    resources:
        gpu_slots=1,  # counts where a profile says how many there are
    params:
        study=STUDY,
    message:
        "train {wildcards.cell}"
    shell:
        "python -m imcl train --study {params.study:q} --threads {threads} {wildcards.cell:q}"
        " > {log:q} 2>&1"


rule records:
    input:
        [RECORDS / cell.record.name for cell in SHOWN],
