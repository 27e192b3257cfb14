# One job is one cell of the grid, with all its seeds.


rule train:
    input:
        lambda wildcards: prepared(cell_of(wildcards)),
    output:
        PROJECT.record("{cell}"),
    log:
        PROJECT.log("{cell}"),
    wildcard_constraints:
        cell=trainable(),
    conda:
        "../envs/imcl.yaml"
    threads: 1  # two cells in parallel finish sooner than two in turn with two threads
    resources:
        gpu_slots=1,  # limits the jobs only where a profile says how many slots there are
    params:
        study=STUDY,
    message:
        "train {wildcards.cell}"
    shell:
        "python -m imcl train --study {params.study:q} --threads {threads} {wildcards.cell:q}"
        " > {log:q} 2>&1"


rule records:
    input:
        list(RECORDS.values()),
