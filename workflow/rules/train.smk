# One job is one seed of a cell. Where seeds are so short that a process would mostly start, one job
# trains all seeds of a cell. The trainings replace their shell (exec): else a signal to all processes
# of a job ends the shell, and Snakemake does not wait until the training has written its checkpoint.


localrules:
    collect,
    search,


rule train:
    input:
        lambda wildcards: prepared(cell_of(wildcards)),
    output:
        PROJECT.record("{cell}"),
    log:
        PROJECT.log("{cell}"),
    wildcard_constraints:
        cell=only(SHORT),
    conda:
        "../envs/imcl.yaml"
    threads: 1  # two cells in parallel finish sooner than two in turn with two threads
    resources:
        gpu_slots=1,  # limits the jobs only where a profile says how many slots there are
        # On a cluster:
        gres=GRES,
        mem_mb=memory,
        runtime=runtime,
    params:
        study=STUDY,
        again=["--again"] if FORCED else [],
    message:
        "train {wildcards.cell}"
    shell:
        "exec python -m imcl train --study {params.study:q} --threads {threads} {params.again:q}"
        " {wildcards.cell:q} > {log:q} 2>&1"


rule train_seed:
    input:
        lambda wildcards: prepared(run_of(wildcards)),
    output:
        PROJECT.run("{name}-seed{seed}-{digest}"),
    log:
        PROJECT.log("{name}-seed{seed}-{digest}"),
    wildcard_constraints:
        name="[^/]+",
        seed="[0-9]+",
        digest="[0-9a-f]{12}",
    conda:
        "../envs/imcl.yaml"
    threads: 1
    resources:
        gpu_slots=1,
        gres=GRES,
        mem_mb=memory,
        runtime=runtime,
    params:
        study=STUDY,
        cell=lambda wildcards: BY_NAME[wildcards.name].key,
    message:
        "train {params.cell}, seed {wildcards.seed}"
    shell:
        "exec python -m imcl train --study {params.study:q} --threads {threads}"
        " --seed {wildcards.seed:q} {params.cell:q} > {log:q} 2>&1"


rule collect:
    input:
        # The files that are missing. Those that are there are right, as records are.
        lambda wildcards: missing_runs(cell_of(wildcards)),
    output:
        PROJECT.record("{cell}"),
    log:
        PROJECT.logs / "collect" / "{cell}.log",
    wildcard_constraints:
        cell=only(LONG),
    conda:
        "../envs/imcl.yaml"
    params:
        study=STUDY,
    message:
        "collect {wildcards.cell}"
    shell:
        "python -m imcl collect --study {params.study:q} {wildcards.cell:q} > {log:q} 2>&1"


rule records:
    input:
        list(RECORDS.values()),


rule search:
    log:
        PROJECT.logs / "search.log",
    conda:
        "../envs/imcl.yaml"
    threads: lambda wildcards: workflow.cores
    params:
        study=STUDY,
    message:
        "search for the settings of study {params.study}"
    # It writes into params.yaml, of which other jobs read a copy.
    shell:
        "env -u %s python -m imcl search --jobs {threads} {params.study:q} 2>&1 | tee {log:q}"
        % VARIABLE
