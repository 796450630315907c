"""The profiles of a run: how many examples are drawn."""

from hypothesis import HealthCheck, settings

PROFILES = {"quick": 2, "default": 9, "deep": 50}
"""How many examples each profile tries for every property, backend and op."""


_SUPPRESSED_HEALTH_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def register_profiles() -> None:
    for name, examples in PROFILES.items():
        settings.register_profile(
            name,
            max_examples=examples,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=_SUPPRESSED_HEALTH_CHECKS,
        )
    settings.load_profile("default")


def is_thorough(profile: settings) -> bool:
    """Return whether this profile tries at least as many examples as the default one.

    `quick` makes fewer cases: it neither searches for declared deviations nor reports stale ones.
    """
    return profile.max_examples >= PROFILES["default"]
