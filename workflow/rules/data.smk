# Archives, arrays and noisy labels.


localrules:
    fetch,  # needs the internet, which the nodes of a cluster often lack


rule fetch:
    output:
        PROJECT.archives / "{archive}",
    log:
        PROJECT.logs / "fetch" / "{archive}.log",
    wildcard_constraints:
        archive="|".join(map(re.escape, ARCHIVES)),
    conda:
        "../envs/imcl.yaml"
    params:
        source=lambda wildcards: ARCHIVES[wildcards.archive],
    message:
        "download {wildcards.archive}"
    shell:
        "python -m imcl fetch {params.source:q} 2>&1 | tee {log:q}"


rule prepare:
    input:
        lambda wildcards: archives(DATASETS[wildcards.dataset]),
    output:
        PROJECT.dataset("{dataset}"),
    log:
        PROJECT.logs / "prepare" / "{dataset}.log",
    conda:
        "../envs/imcl.yaml"
    params:
        name=lambda wildcards: DATASETS[wildcards.dataset].words,
    message:
        "prepare {params.name}"
    shell:
        "python -m imcl prepare {params.name:q} > {log:q} 2>&1"


rule noise:
    input:
        PROJECT.dataset("{dataset}"),
        lambda wildcards: archives(NOISES[wildcards.dataset, wildcards.noise]),
    output:
        PROJECT.noise("{dataset}", "{noise}"),
        PROJECT.noise("{dataset}", "{noise}").with_suffix(".npy"),
    log:
        PROJECT.logs / "noise" / "{dataset}-{noise}.log",
    conda:
        "../envs/imcl.yaml"
    params:
        names=lambda wildcards: NOISES[wildcards.dataset, wildcards.noise].words,
    message:
        "draw labels {params.names}"
    shell:
        "python -m imcl noise {params.names:q} > {log:q} 2>&1"


rule data:
    input:
        [PROJECT.dataset(key) for key in DATASETS],
        [PROJECT.noise(*keys) for keys in NOISES],
