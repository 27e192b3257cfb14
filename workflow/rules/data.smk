# Archives, arrays and noisy labels.


rule fetch:
    output:
        grid.ARCHIVES / "{archive}",
    log:
        "logs/fetch/{archive}.log",
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
        # Its checksum says what an archive is, not its time.
        lambda wildcards: ancient(DATASETS[wildcards.dataset].archives),
    output:
        grid.DATA / "{dataset}" / "dataset.json",
    log:
        "logs/prepare/{dataset}.log",
    conda:
        "../envs/imcl.yaml"
    params:
        name=lambda wildcards: DATASETS[wildcards.dataset].name,
    message:
        "prepare {params.name}"
    shell:
        "python -m imcl prepare {params.name:q} > {log:q} 2>&1"


rule noise:
    input:
        grid.DATA / "{dataset}" / "dataset.json",
        # Labels that people gave come in an archive, whose time says nothing either.
        lambda wildcards: ancient(
            NOISES[
                str(
                    grid.DATA / wildcards.dataset / "noise" / f"{wildcards.noise}.json"
                )
            ].archives
        ),
    output:
        grid.DATA / "{dataset}" / "noise" / "{noise}.json",
        grid.DATA / "{dataset}" / "noise" / "{noise}.npy",
    log:
        "logs/noise/{dataset}-{noise}.log",
    conda:
        "../envs/imcl.yaml"
    params:
        names=lambda wildcards, output: [
            NOISES[output[0]].dataset.name,
            NOISES[output[0]].name,
        ],
    message:
        "draw labels {params.names}"
    shell:
        "python -m imcl noise {params.names:q} > {log:q} 2>&1"


rule data:
    input:
        [dataset.path for dataset in DATASETS.values()],
        list(NOISES),
