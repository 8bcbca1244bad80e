"""The platform's own words: paths, presets, bounds. Plain data without an import, so that any layer may read it."""

ATTRIBUTE_PATH = "/smartop/api/v1/user/attribute"
REGISTER_PATH = "/smartop/api/v1/user/register"
MAX_IDENTITY_VALUES = 100
"""Maximum number of values in one Get CUID."""
TIMEZONE = "Asia/Shanghai"
"""The time zone of a project that does not name one."""
PRESET_PREFIX = "jg_"
"""Names that begin with it are the platform's."""
PRESETS = (("jg_registration_id", "极光设备唯一标识", False), ("jg_UnionID", "用户会员卡号", True))
"""The identifiers that every project has: name, display name, whether a user has one value at most."""
