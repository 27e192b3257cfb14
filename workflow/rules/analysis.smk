# From records to JSON: the study's summary with its search, and the claims. Each file depends on the
# records that it is read from, and on the modules that read them.


localrules:
    summary,
    claims,


rule summary:
    input:
        list(RECORDS.values()),
        SEARCHED,
        sources("imcl.analysis.summary"),
    output:
        SUMMARY,
        [PROJECT.metrics / f"{CELLS[key].name}.json" for key in RECORDS],
        PROJECT.curves,
    log:
        PROJECT.logs / "summary.log",
    conda:
        "../envs/imcl.yaml"
    params:
        study=STUDY,
        origin=ORIGIN,
        settings=SETTINGS.model_dump_json(include={"search"}),
        chosen=SETTINGS.chosen_study.model_dump_json(include={"chosen"}),
    message:
        "summarise study {params.study}"
    # --partial, since the input lists the required records.
    shell:
        "python -m imcl summary --study {params.study:q} --partial {params.origin:q}"
        " > {log:q} 2>&1"


rule claims:
    input:
        # Claims are judged from every study, and from the measured overhead.
        lambda wildcards: evidence(
            *(name for name, study in SETTINGS.studies.items() if study.evidence)
        ),
        measurements("overhead"),
        sources("imcl.analysis.claims"),
    output:
        CLAIMS,
    log:
        PROJECT.logs / "claims.log",
    conda:
        "../envs/imcl.yaml"
    params:
        origin=ORIGIN,
        settings=SETTINGS.model_dump_json(include={"claims"}),
    message:
        "judge the claims"
    shell:
        "python -m imcl claims --save {params.origin:q} > {log:q} 2>&1"
