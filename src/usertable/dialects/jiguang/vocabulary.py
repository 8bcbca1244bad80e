"""The platform's names and limits: paths, presets, bounds. Plain data without imports, so that any layer may use it."""

ATTRIBUTE_PATH = "/smartop/api/v1/user/attribute"
REGISTER_PATH = "/smartop/api/v1/user/register"
MAX_IDENTITY_VALUES = 100
"""Maximum number of values in one Get CUID."""
TIMEZONE = "Asia/Shanghai"
"""The time zone of a project that does not set one."""
PRESET_PREFIX = "jg_"
"""The prefix of the platform's names."""
PRESETS = (("jg_registration_id", "极光设备唯一标识", False), ("jg_UnionID", "用户会员卡号", True))
"""The identifiers that every project has: name, display name, whether a user has at most one value."""
ENGLISH_PRESETS = {"jg_registration_id": "JiGuang device ID", "jg_UnionID": "Membership card number"}
"""English display names of these identifiers, by name. The store has the Chinese ones."""
