"""What the site has, in the order in which a reader asks."""

from __future__ import annotations

Section = tuple[str, tuple[str, ...]]

SECTIONS: tuple[Section, ...] = (
    ("Start", ("index", "install", "quickstart", "concepts", "choose", "compare")),
    (
        "Build",
        (
            "agents", "people", "histories", "memory", "session-files", "capability", "teams", "workflows",
            "changing-workflows", "engines", "storage", "users", "testing", "examples",
        ),
    ),
    (
        "Run",
        (
            "production", "fastapi", "django-flask", "workers", "serverless", "containers", "server", "backup",
            "upgrading", "costs", "telemetry", "troubleshooting",
        ),
    ),
    (
        "Databases",
        (
            "sqlite", "postgres", "mysql", "sqlalchemy", "redis", "dynamodb", "mongodb", "objects", "files", "drivers",
            "writing-a-driver",
        ),
    ),
    (
        "Look and learn",
        (
            "insight", "dashboard", "dashboard-sessions", "dashboard-session", "dashboard-work", "dashboard-learn",
            "dashboard-monitor", "few-shot", "evaluation",
        ),
    ),
    ("Protect", ("encryption", "retention", "access", "threat-model", "security")),
    (
        "Switch",
        (
            "moving", "importing", "from-agno", "from-openai-agents", "from-langgraph", "from-google-adk",
            "integrations", "agno", "openai-agents", "langgraph", "google-adk", "pydantic-ai-store",
        ),
    ),
    (
        "Reference",
        (
            "reference/agents", "reference/workflows", "reference/storage", "reference/records", "reference/errors",
            "reference/more", "reference/options", "cli", "reference/commands", "limits", "glossary",
        ),
    ),
    (
        "Messages",
        (
            "messages-agents", "messages-storage", "messages-databases", "messages-around", "messages-server",
        ),
    ),
    (
        "How it works",
        ("architecture", "format", "benchmarks", "torture", "licences", "contributing", "changelog"),
    ),
)  # fmt: skip
"""Each section and its pages, by their names in docs/; what is not there is made (`website.build`)."""

HERE = {"README": "index", "CHANGELOG": "changelog", "SECURITY": "security", "ARCHITECTURE": "architecture",
        "CONTRIBUTING": "contributing"}  # fmt: skip
"""Pages that stand beside docs/, and what they are called on the site."""

SUMMARY = (
    "Sessile keeps the sessions of AI agents, agent teams and workflows in your own database: SQLite, PostgreSQL, "
    "MySQL, MongoDB, Redis, DynamoDB, object stores or files. A Python library on top of Pydantic AI, Apache-2.0."
)


def pages() -> list[str]:
    """The names of all pages, in order."""
    return [page for _, section in SECTIONS for page in section]
