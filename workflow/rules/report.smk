# From records to tables, figures and the paper.


rule summary:
    input:
        rules.records.input,
        # The claims are judged from the records of all studies.
        COMMITTED,
        BENCHES_THERE,
        "src/imcl/stats.py",
        expand(
            "src/imcl/report/{name}.py",
            name=["summary", "ablation", "claims", "records"],
        ),
    output:
        STUDY_SUMMARY,
        [METRICS / f"{cell.name}.json" for cell in SHOWN],
        CURVES,
    log:
        "logs/summary.log",
    conda:
        "../envs/imcl.yaml"
    params:
        study=STUDY,
        records=RECORDS,
        claims=PARAMS["claims"],
        calibration=PARAMS["calibration"],
        others=MADE_HERE,
    message:
        "summarise study {params.study}"
    # The input says which records there have to be.
    shell:
        "python -m imcl summary --study {params.study:q} --records {params.records:q}"
        " --partial > {log:q} 2>&1"


rule tables:
    input:
        STUDY_SUMMARY,
        expand(
            TEMPLATES / "{name}.tex.j2",
            name=["table", "numbers", "results", "discussion"],
        ),
        BENCHES_THERE,
        expand(
            "src/imcl/report/{name}.py",
            name=["tables", "ablation", "findings", "benches", "render"],
        ),
    output:
        directory(TABLES[0]),
        TABLES[1:],
    log:
        "logs/tables.log",
    conda:
        "../envs/imcl.yaml"
    message:
        "render the tables"
    shell:
        "python -m imcl tables > {log:q} 2>&1"


rule figures:
    input:
        STUDY_SUMMARY,
        "src/imcl/report/figures.py",
        "src/imcl/report/tables.py",
    output:
        report(
            directory(FIGURES),
            patterns=["{name}.png"],
            caption="../report/figure.rst",
            category="Figures",
        ),
    log:
        "logs/figures.log",
    conda:
        "../envs/imcl.yaml"
    message:
        "draw the figures"
    shell:
        "python -m imcl figures > {log:q} 2>&1"


rule paper:
    input:
        TABLES,
        FIGURES,
        "paper/main.tex",
    output:
        report(
            BUILD / "paper.pdf",
            caption="../report/paper.rst",
            category="Paper",
        ),
    log:
        "logs/paper.log",
    conda:
        "../envs/imcl.yaml"
    message:
        "typeset the paper"
    shell:
        "python -m imcl paper > {log:q} 2>&1"


rule report:
    input:
        STUDY_SUMMARY,
        "params.yaml",
        # Its crate holds the paper, where there is one.
        PAPER,
        expand(
            "src/imcl/report/{name}",
            name=[
                "html.py",
                "charts.py",
                "crate.py",
                "tables.py",
                "ablation.py",
                "findings.py",
                "benches.py",
                "render.py",
                "page",
            ],
        ),
    output:
        report(REPORT, caption="../report/report.rst", category="Report"),
        directory(CRATE),
    log:
        "logs/report.log",
    conda:
        "../envs/imcl.yaml"
    message:
        "make the report"
    shell:
        "python -m imcl report > {log:q} 2>&1"
