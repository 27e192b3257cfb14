# From JSON to tables, figures, the paper and the report.


localrules:
    tables,
    figures,
    paper,
    report,


rule tables:
    input:
        ANALYSIS,
        measurements(),
        files(PROJECT.templates),
        sources("imcl.present.tables", "imcl.present.shown"),
    output:
        directory(TABLES[0]),
        TABLES[1:],
    log:
        PROJECT.logs / "tables.log",
    conda:
        "../envs/imcl.yaml"
    message:
        "render the tables"
    shell:
        "python -m imcl tables > {log:q} 2>&1"


rule figures:
    input:
        ANALYSIS,
        measurements(),
        sources("imcl.present.figures"),
    output:
        report(
            directory(FIGURES),
            patterns=["{name}.png"],
            caption="../report/figure.rst",
            category="Figures",
        ),
    log:
        PROJECT.logs / "figures.log",
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
        PROJECT.paper / "main.tex",
        PROJECT.paper / "references.bib",
        sources("imcl.present.pdf"),
    output:
        report(
            PROJECT.build / "paper.pdf",
            caption="../report/paper.rst",
            category="Paper",
        ),
    log:
        PROJECT.logs / "paper.log",
    conda:
        "../envs/imcl.yaml"
    message:
        "typeset the paper"
    shell:
        "python -m imcl paper > {log:q} 2>&1"


rule report:
    input:
        ANALYSIS,
        measurements(),
        PROJECT.params,
        PAPER,  # the crate holds it, where there is one
        sources("imcl.present.html", "imcl.present.crate"),
    output:
        report(REPORT, caption="../report/report.rst", category="Report"),
        directory(CRATE),
    log:
        PROJECT.logs / "report.log",
    conda:
        "../envs/imcl.yaml"
    message:
        "make the report"
    shell:
        "python -m imcl report > {log:q} 2>&1"
