"""Problem messages for people in the console. The API's messages are for programs and their developers."""

from __future__ import annotations

from usertable.console.texts import TEXTS as CONSOLE_TEXTS
from usertable.dialects.jiguang.vocabulary import PRESET_PREFIX
from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.wire.messages import Language, parameters
from usertable.wire.messages import text as message

SENTENCES: dict[ProblemKind, tuple[str, str]] = {
    # requests
    ProblemKind.CREDENTIALS: (
        "项目 ID 或密钥缺失、错误或格式有误。",
        "The project ID or the secret is missing, wrong or malformed.",
    ),
    ProblemKind.DUPLICATE_KEY: ("请求体中的键“{key}”重复。", "The body has the key “{key}” more than once."),
    ProblemKind.PARAMETER: ("“{name}”无效，应为：{expected}。", "“{name}” is not valid. Expected {expected}."),
    ProblemKind.DATA_MISSING: ("请求缺少 data。", "The request has no “data”."),
    ProblemKind.DATA_NOT_OBJECT: ("data 必须是 JSON 对象。", "“data” must be a JSON object."),
    ProblemKind.DATA_EMPTY: ("data 为空，请至少提供一个属性。", "“data” is empty. Send at least one attribute."),
    ProblemKind.DATA_LENGTH: (
        "data 有 {members} 个成员，超过上限 {limit}。",
        "“data” has {members} members. The maximum is {limit}.",
    ),
    ProblemKind.CUID_MISSING: ("请求缺少 cuid。", "The request has no CUID."),
    ProblemKind.CUID_MALFORMED: (
        "“{value}”不是有效的 CUID，应为 1 到 9223372036854775807 的整数。",
        "“{value}” is not a CUID. A CUID is a whole number from 1 to 9223372036854775807.",
    ),
    ProblemKind.CUID_UNKNOWN: ("用户 {cuid} 不存在。", "User {cuid} does not exist."),
    ProblemKind.CUID_EXISTS: ("CUID {cuid} 已存在。", "CUID {cuid} exists already."),
    ProblemKind.CUID_ERASED: (
        "CUID {cuid} 对应的用户已被删除，不能再次使用。",
        "The user with CUID {cuid} was erased. A CUID is never used again.",
    ),
    # values
    ProblemKind.ATTRIBUTE_UNKNOWN: ("属性“{attribute}”不存在。", "The attribute “{attribute}” does not exist."),
    ProblemKind.VALUE_EMPTY: ("属性“{attribute}”的值为空。", "The value of “{attribute}” is empty."),
    ProblemKind.VALUE_TYPE: (
        "属性“{attribute}”的值“{value}”无效，{type} 类型应为：{expected}。",
        "“{value}” is not a {type} for “{attribute}”. Expected {expected}.",
    ),
    ProblemKind.NUMBER_RANGE: (
        "属性“{attribute}”的值“{value}”超出范围：最多 {digits} 位有效数字，指数在 ±{digits} 以内。",
        "The value “{value}” of “{attribute}” is out of range: at most {digits} significant digits, and an exponent within"
        " ±{digits}.",
    ),
    ProblemKind.STRING_LENGTH: (
        "属性“{attribute}”的值为 {bytes} 字节，超过上限 {limit} 字节。",
        "The value of “{attribute}” has {bytes} bytes. The maximum is {limit}.",
    ),
    ProblemKind.STRING_CHARACTER: (
        "属性“{attribute}”的值含有不允许的字符 {character}。",
        "The value of “{attribute}” has the character {character}, which is not allowed.",
    ),
    ProblemKind.DATETIME_SKIPPED: (
        "属性“{attribute}”的值“{value}”在时区 {zone} 中不存在（时钟调快时被跳过）。",
        "The time “{value}” of “{attribute}” does not exist in {zone}: a clock change skips it.",
    ),
    ProblemKind.LIST_LENGTH: (
        "属性“{attribute}”的值有 {elements} 个元素，超过上限 {limit}。",
        "The value of “{attribute}” has {elements} elements. The maximum is {limit}.",
    ),
    ProblemKind.LIST_ELEMENT_LENGTH: (
        "属性“{attribute}”的元素“{value}”为 {bytes} 字节，超过上限 {limit} 字节。",
        "The element “{value}” of “{attribute}” has {bytes} bytes. The maximum is {limit}.",
    ),
    ProblemKind.ACCUMULATE_RANGE: (
        "属性“{attribute}”累计后超出范围：{stored} 加 {value}，最多 {digits} 位有效数字。",
        "“{attribute}” would be out of range: {stored} plus {value} has more than {digits} significant digits.",
    ),
    ProblemKind.APPEND_LENGTH: (
        "属性“{attribute}”追加后有 {elements} 个元素，超过上限 {limit}。",
        "“{attribute}” would have {elements} elements. The maximum is {limit}.",
    ),
    ProblemKind.ROW_LENGTH: (
        "写入属性“{attribute}”后，该用户的数据共 {bytes} 字节，超过上限 {limit} 字节（配置项 row_limit）。",
        "With “{attribute}”, the user's row would have {bytes} bytes. The maximum is {limit} (the setting row_limit).",
    ),
    # identifiers of users
    ProblemKind.IDENTITY_NAME: (
        "identityName 必须是标识的名称。",
        "“identityName” must be the name of an identifier.",
    ),
    ProblemKind.IDENTITY_VALUES: (
        "identityValues 必须是含 1 到 {limit} 个字符串的数组。",
        "“identityValues” must be an array of 1 to {limit} strings.",
    ),
    ProblemKind.IDENTITY_VALUE: (
        "identityValues 的第 {place} 个值无效，应为 1 到 {limit} 个字符的字符串。",
        "Value {place} of “identityValues” is not a string of 1 to {limit} characters.",
    ),
    ProblemKind.IDENTIFIER_UNKNOWN: ("标识“{attribute}”不存在。", "The identifier “{attribute}” does not exist."),
    ProblemKind.IDENTIFIER_NOT_UNIQUE: (
        "标识“{attribute}”不是唯一标识，无法用于获取 CUID。",
        "The identifier “{attribute}” is not unique, so Get CUID rejects it.",
    ),
    ProblemKind.IDENTIFIER_NOT_FIRST: (
        "获取 CUID 使用标识“{first}”，不接受“{attribute}”。",
        "Get CUID takes the identifier “{first}”, not “{attribute}”.",
    ),
    ProblemKind.IDENTIFIER_TAKEN: (
        "标识“{attribute}”的值“{value}”已属于另一个用户。",
        "The value “{value}” of the identifier “{attribute}” belongs to another user.",
    ),
    ProblemKind.IDENTIFIER_FULL: (
        "用户 {cuid} 的标识“{attribute}”最多有 {limit} 个值。",
        "User {cuid} cannot have more than {limit} values of the identifier “{attribute}”.",
    ),
    # projects and their schema
    ProblemKind.PROJECT_UNKNOWN: ("项目“{id}”不存在。", "The project “{id}” does not exist."),
    ProblemKind.PROJECT_EXISTS: ("项目 ID“{id}”已被使用。", "The ID “{id}” is taken by another project."),
    ProblemKind.PROJECT_ID: (
        "“{id}”不是有效的项目 ID，应为 1 到 64 个字母、数字、点、下划线或连字符，且不能是 . 或 ..。",
        "“{id}” is not a project ID. Use 1 to 64 letters, digits, dots, underscores or hyphens, but not . or .. alone.",
    ),
    ProblemKind.PROJECT_NAME: (
        "请输入名称，最多 {limit} 个可见字符。",
        "Enter a name of at most {limit} printable characters.",
    ),
    ProblemKind.TIMEZONE: (
        "“{value}”不是有效的时区，请填写 IANA 时区名称，例如 Asia/Shanghai。",
        "“{value}” is not a time zone. Enter an IANA name such as Asia/Shanghai.",
    ),
    ProblemKind.QPS: (
        "“{value}”无效，请输入 1 到 {maximum} 的整数。",
        "“{value}” is not a limit. Enter a whole number from 1 to {maximum}.",
    ),
    ProblemKind.NAME_FORM: (
        "“{attribute}”不是有效的名称：以小写字母开头，仅含小写字母、数字和下划线，最长 {limit} 个字符。",
        "“{attribute}” is not a valid name. Use lowercase letters, digits and underscores, starting with a letter, and at"
        " most {limit} characters.",
    ),
    ProblemKind.NAME_PRESET: (
        f"{PRESET_PREFIX} 开头的名称为预置项专用。",
        f"Names that start with {PRESET_PREFIX} are reserved for presets.",
    ),
    ProblemKind.NAME_TAKEN: ("名称“{attribute}”已存在。", "The name “{attribute}” is taken."),
    ProblemKind.TOO_MANY_ATTRIBUTES: (
        "属性数量已达上限 {limit}。",
        "The project has {limit} attributes, which is the maximum.",
    ),
    ProblemKind.RULE_ILLEGAL: (
        "{type} 类型不支持此规则，可用：{legal}。",
        "This rule is not available for {type}. Choose one of: {legal}.",
    ),
    ProblemKind.LIMIT_ILLEGAL: ("请输入 {expected} 的整数。", "Enter a whole number from {expected}."),
    ProblemKind.TEXT_TOO_LONG: ("超过上限 {limit} 个字符。", "This has more than {limit} characters, which is the maximum."),
    ProblemKind.ATTRIBUTE_IN_USE: (
        "属性“{attribute}”已有数据，无法删除，可改为隐藏。",
        "“{attribute}” has data, so it can't be deleted. Hide it instead.",
    ),
    ProblemKind.IDENTIFIER_PRESET: (
        "“{attribute}”是预置标识，无法删除。",
        "“{attribute}” is a preset, so it can't be deleted.",
    ),
    ProblemKind.IDENTIFIER_IN_USE: (
        "标识“{attribute}”已有数据，无法删除。",
        "Users have values of “{attribute}”, so it can't be deleted.",
    ),
    ProblemKind.CONDITION: ("筛选条件“{value}”无效：{expected}。", "The filter “{value}” is not valid: {expected}."),
    ProblemKind.HISTORY_OFF: ("该项目未开启历史记录。", "History is off in this project."),
    ProblemKind.MOMENT_AHEAD: ("所选时间晚于当前时间。", "That moment is in the future."),
    ProblemKind.MOMENT_SKIPPED: (
        "时间 {value} 在时区 {zone} 中不存在（时钟调快时被跳过），请选择 {next} 或更晚的时间。",
        "The time {value} does not exist in {zone}: a clock change skips it. Choose {next} or later.",
    ),
    ProblemKind.USER_NOT_YET: (
        "该用户在 {moment} 还不存在，创建于 {created}。",
        "This user did not exist at {moment}. It was created at {created}.",
    ),
    ProblemKind.HISTORY_GONE: (
        "历史记录的保留起点为 {oldest}，请选择更晚的时间。",
        "History is kept from {oldest} on. Choose a later moment.",
    ),
    ProblemKind.HISTORY_GAP: (
        "{users} 个用户（如 CUID {cuid}）有未记录的变更，只能导出截至 {oldest} 或更晚时间的用户表。",
        "Changes of {users} users, such as CUID {cuid}, were not recorded. Export the table as of {oldest} or later.",
    ),
    ProblemKind.ATTRIBUTE_NOT_KEPT: (
        "属性“{attribute}”的历史记录在 {moment} 或之后曾关闭，当时的值未知，请不要选择该属性。",
        "The values of “{attribute}” at {moment} are not known, because its history was off then or later. Choose other"
        " attributes.",
    ),
    # keys
    ProblemKind.FORBIDDEN: ("访问密钥“{key}”缺少权限 {scope}。", "The key “{key}” lacks the scope {scope}."),
    ProblemKind.KEY_UNKNOWN: ("访问密钥“{key}”不存在。", "The key “{key}” does not exist."),
    ProblemKind.KEY_NAME: (
        "名称应为 1 到 64 个字母、数字、点、下划线或连字符。",
        "Use 1 to 64 letters, digits, dots, underscores or hyphens.",
    ),
    ProblemKind.KEY_EXISTS: (
        "“{key}”已使用过，名称不能再次使用，请换一个。",
        "“{key}” was used before. Names are never used again, so choose another.",
    ),
    ProblemKind.KEY_EXPIRY: ("过期时间必须晚于当前时间。", "Choose a day in the future."),
    ProblemKind.KEY_REVOKED: (
        "“{key}”已吊销，无法更换密钥，请新建访问密钥。",
        "“{key}” is revoked, so its secret can't be rotated. Create another key.",
    ),
    ProblemKind.LAST_KEY: (
        "“{key}”是最后一个具有 keys 权限的访问密钥，请确认后再吊销。",
        "“{key}” is the last key with the scope “keys”. Confirm that it shall be revoked.",
    ),
    ProblemKind.SCOPE: ("请至少勾选一项权限。", "Select at least one scope."),
    ProblemKind.SCOPE_EXCEEDED: ("不能授予你没有的权限：{legal}。", "You can't grant scopes that you don't have: {legal}."),
    # people
    ProblemKind.EMAIL: ("“{value}”不是有效的邮箱地址。", "“{value}” is not an e-mail address."),
    ProblemKind.PERSON_NAME: ("姓名最多 {limit} 个可见字符。", "A name has at most {limit} printable characters."),
    ProblemKind.PERSON_UNKNOWN: ("成员“{email}”不存在。", "There is no person “{email}”."),
    ProblemKind.PERSON_EXISTS: (
        "邮箱“{email}”已被使用，邮箱不区分大小写。",
        "Somebody has the e-mail address “{email}” already. Letter case makes no difference.",
    ),
    ProblemKind.NOT_FIRST: (
        "已有成员，请联系管理员邀请你。",
        "Somebody else created the first account. Ask an admin for an invitation.",
    ),
    ProblemKind.LAST_ADMIN: (
        "至少须保留一名可登录的管理员，请先将其他成员设为管理员。",
        "One admin who can sign in must remain. Make somebody else an admin first.",
    ),
    ProblemKind.ROLE: ("角色“{value}”不存在，可用：{legal}。", "There is no role “{value}”. Choose one of: {legal}."),
    ProblemKind.PASSWORD: (
        "密码至少 {minimum} 个字符，最多 {maximum} 字节，对字符种类没有要求。",
        "Use {minimum} characters or more, and at most {maximum} bytes. Which characters makes no difference.",
    ),
    ProblemKind.PASSWORD_WRONG: ("当前密码错误。", "This is not your current password."),
    ProblemKind.LINK_OVER: (
        "链接已使用或已过期，请向管理员获取新链接。",
        "This link has been used or has expired. Ask an admin for a new one.",
    ),
    # files; no page shows these yet
    ProblemKind.COLUMN: ("列“{attribute}”无效：{expected}。", "The column “{attribute}” is not valid: {expected}."),
    ProblemKind.IMPORT_JOB: ("导入任务“{job}”：{reason}。", "The import “{job}”: {reason}."),
}
"""Chinese and English texts that replace the API's, which use brackets or address programs."""


def sentence(problem: Problem, language: Language) -> str:
    """Return the message for a problem: the console's own, or else the API's as a sentence."""
    own = SENTENCES.get(problem.kind)
    if own is None:
        said = message(problem, language)
        return said[:1].upper() + said[1:] + ("" if said[-1:] in "。." else "。" if language == "zh" else ".")
    index = 0 if language == "zh" else 1
    if problem.kind is ProblemKind.NAME_FORM and not problem.attribute:
        return CONSOLE_TEXTS["name_missing"][index]
    params = parameters(problem, language)
    if problem.kind is ProblemKind.RULE_ILLEGAL:
        legal = problem.params["legal"]
        assert isinstance(legal, tuple)
        rules = (CONSOLE_TEXTS[f"rule.{rule}"][index] for rule in legal)
        params["legal"] = CONSOLE_TEXTS["separator"][index].join(rules)
    return own[index].format(attribute=excerpt(problem.attribute or "", 120), **params)
