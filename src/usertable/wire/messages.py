"""The text of every problem, in Chinese and English. Each says what was wrong, where, and what would be right.

Of the platform's own Chinese texts only `用户属性[…]不存在` is published; the others follow its manner.
"""

from __future__ import annotations

import re
from typing import Literal

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.domain.moments import MOMENT_FORMS

Language = Literal["zh", "en"]

CHINESE_PHRASES = {
    "a number, or a string that is a plain number": "数字，或数字形式的字符串",
    "a string, a number or true/false": "字符串、数字或 true/false",
    "the integer 0 or 1": "整数 0 或 1",
    "a string yyyy-MM-dd HH:mm:ss": "yyyy-MM-dd HH:mm:ss 格式的字符串",
    "an array of strings": "字符串数组",
    "an object with data, and cuid, identity or identifiers": "含 data 以及 cuid、identity 或 identifiers 的对象",
    "nothing of that name; a record has cuid, identity, identifiers, data, key": (
        "不传，记录仅支持 cuid、identity、identifiers、data、key"
    ),
    "either cuid or identity, not both": "cuid 或 identity 之一，不可同时使用",
    "either identity or identifiers, not both": "identity 或 identifiers 之一，不可同时使用",
    "an object: a value, or an array of some, by identifier": "对象，键为标识名，值为单个值或值的数组",
    "an object with name, and value: a string of 1 to 256 characters": "含 name 和 value（1 到 256 个字符的字符串）的对象",
    "1 to 255 visible ASCII characters": "1 到 255 个可见 ASCII 字符",
    "refuse or register, because a record has an identity": "refuse 或 register，因为有记录使用 identity",
    "refuse or import, because a record has identifiers": "refuse 或 import，因为有记录使用 identifiers",
    "printable text on one line": "单行可见文本",
    "Unicode text without U+0000": "不含 U+0000 的 Unicode 文本",
    "limits on a LIST only": "仅 LIST 类型可设上限",
    "it must begin with the name of a declared attribute and a colon": "应以已声明的属性名和冒号开头",
    MOMENT_FORMS: "yyyy-MM-dd HH:mm:ss，空格可写作 T，可带最多九位小数，以及 Z 或 +08:00 这样的时区偏移",
    "between takes two values with a comma between": "between 需要两个值，以逗号分隔",
    'a value that holds a comma in double quotes, as in "Washington, D.C.",Paris': (
        '含逗号的值应加双引号，如 "Washington, D.C.",Paris'
    ),
    'the project\'s version in quotes, as in "7", or *': '带引号的项目版本号，如 "7"，或 *',
    "a value within the bounds": "范围内的值",
    "the whole value, and this one is masked; `usertable export` writes whole values": (
        "完整的值（当前值已脱敏）；`usertable export` 可导出完整的值"
    ),
    "both of them, or neither": "两者同时提供，或都不提供",
    "percent-encoded UTF-8": "百分号编码的 UTF-8",
    "one value": "单个值",
    "nothing of that name": "不传，不支持此名称",
    "a value, but it is missing": "必填，不能缺失",
    "0 or 1": "0 或 1",
    "one of a number, unlimited": "数字或 unlimited",
    "nested too deeply": "嵌套过深",
    "this is not an HTTP/1.1 request": "不是 HTTP/1.1 请求",
    "Input data was truncated": "数据不完整",
    "it is compressed with gzip": "数据已用 gzip 压缩",
    "it is compressed with zstd": "数据已用 zstd 压缩",
    "a number has more than 4300 digits": "数字超过 4300 位",
    "its end is missing": "结尾缺失",
}
"""What was expected, and what is wrong with a body."""

_PHRASE_FORMS_ZH = (
    (re.compile(r"(\d+) to (\d+)"), r"\1 到 \2"),
    (re.compile(r"a text of 1 to (\d+) characters"), r"1 到 \1 个字符的文本"),
    (re.compile(r"at most (\d+) conditions in a filter"), r"一次筛选最多 \1 个条件"),
    (re.compile(r"at most (\d+) values in a filter"), r"一次筛选最多 \1 个值"),
    (re.compile(r"one of (.+)"), r"\1 之一"),
    (re.compile(r"(\w+) takes no value"), r"\1 不带值"),
    (re.compile(r"the pseudo-columns are (.+)"), r"可用的伪列有 \1"),
    (re.compile(r"(.+) is a whole number of 64 bits"), r"\1 应为 64 位整数"),
    (re.compile(r"the operator must be one of (.+)"), r"操作符应为 \1 之一"),
    (re.compile(r"(\w+) is for (.+), not for (\w+)"), r"\1 适用于 \2，不适用于 \3"),
    (re.compile(r"(`.+`), got (`.+`)"), r"\1，实际为 \2"),
    (re.compile(r"(`.+`) of length (.+)"), r"\1，长度 \2"),
    (re.compile(r"(`.+`) matching regex (.+)"), r"\1，符合正则表达式 \2"),
    (re.compile(r"byte (\w+) at position (\d+) is not UTF-8"), r"偏移 \2 处的字节 \1 不是 UTF-8"),
    (re.compile(r"it is (UTF-\d+); expected UTF-8"), r"编码为 \1，应为 UTF-8"),
    (re.compile(r"(\S+) at position (\d+) is half of a surrogate pair"), r"偏移 \2 处的 \1 是不成对的代理字符"),
    (re.compile(r"(\w+) at position (\d+) is not a JSON number"), r"偏移 \2 处的 \1 不是 JSON 数字"),
    (re.compile(r"(\d+) bytes follow its end"), r"结尾之后还有 \1 字节"),
    (re.compile(r"at most (\d+) bytes"), r"最多 \1 字节"),
    (re.compile(r"JSON is malformed: trailing characters \(byte (\d+)\)"), r"偏移 \1 字节起有多余内容"),
    (re.compile(r"JSON is malformed: .+ \(byte (\d+)\)"), r"偏移 \1 字节处格式错误"),
)
"""Phrases with parameters in them."""

TEXTS: dict[ProblemKind, tuple[str, str]] = {
    ProblemKind.CREDENTIALS: (
        "鉴权失败",
        "authentication failed: the project id or secret is wrong, missing or malformed",
    ),
    ProblemKind.ADMIN_ONLY: (
        "鉴权失败：此接口需要管理员令牌",
        "authentication failed: this route needs the admin token ({hint})",
    ),
    ProblemKind.METRICS_ONLY: (
        "鉴权失败：此接口需要监控令牌（Authorization: Bearer <metrics_token>）",
        "authentication failed: this route needs the metrics token (Authorization: Bearer <metrics_token>)",
    ),
    ProblemKind.RATE_LIMITED: ("请求过于频繁：QPS 上限为 {limit}", "too many requests: the limit is {limit} per second"),
    ProblemKind.NO_ROUTE: ("接口不存在：{path}", "no such route: {path}"),
    ProblemKind.NO_METHOD: (
        "不支持的请求方法 {method}，应为 {allowed}",
        "method {method} is not allowed here; use {allowed}",
    ),
    ProblemKind.NOT_HTTP: ("不是合法的 HTTP/1.1 请求", "this is not a valid HTTP/1.1 request"),
    ProblemKind.HTTP_VERSION: (
        "不支持的 HTTP 版本 {version}，请使用 HTTP/1.1",
        "HTTP version {version} is not supported; use HTTP/1.1",
    ),
    ProblemKind.HEAD_TOO_LARGE: (
        "请求头超过上限：最多 {limit} 字节、{lines} 行",
        "the request head is too large; at most {limit} bytes in {lines} lines are allowed",
    ),
    ProblemKind.HEADER_REPEATED: ("请求头 {name} 重复，只能出现一次", "header {name} is sent more than once; send it once"),
    ProblemKind.HOST: (
        "请求头 Host 缺失或无效，例如：Host: example.com",
        "the Host header is missing or invalid; send one, such as Host: example.com",
    ),
    ProblemKind.TRANSFER_CODING: (
        "不支持的 Transfer-Encoding：{value}，仅支持 HTTP/1.1 的 chunked",
        "unsupported Transfer-Encoding {value}; send chunked, in HTTP/1.1, or none",
    ),
    ProblemKind.EXPECTATION: (
        "不支持的 Expect：{value}，仅支持 100-continue",
        "unsupported Expect {value}; send 100-continue, or none",
    ),
    ProblemKind.CONTENT_TYPE: (
        "不支持的 Content-Type：{value}，应为 application/json",
        "unsupported Content-Type {value}; send application/json",
    ),
    ProblemKind.BODY_TOO_LARGE: ("请求体超过上限 {limit} 字节", "the body is larger than the limit of {limit} bytes"),
    ProblemKind.BODY_TIMEOUT: ("请求体未在 {seconds} 秒内传完", "the body did not arrive within {seconds} seconds"),
    ProblemKind.CONTENT_CODING: (
        "不支持的 Content-Encoding：{value}，可用：{have}",
        "unsupported Content-Encoding {value}; send {have}, or none",
    ),
    ProblemKind.BODY_BROKEN: ("请求体不是完整的 {coding} 数据：{reason}", "the body is not whole {coding} data: {reason}"),
    ProblemKind.BODY_NOT_JSON: ("请求体不是合法的 JSON：{reason}", "the body is not valid JSON: {reason}"),
    ProblemKind.BODY_NOT_OBJECT: ("请求体必须是 JSON 对象", "the body must be a JSON object"),
    ProblemKind.DUPLICATE_KEY: ("请求体中的键[{key}]重复", "the key [{key}] is repeated in the body"),
    ProblemKind.BODY_VALUES: (
        "请求体中的值超过 {limit} 个，请减少每次发送的记录数",
        "the body holds more than {limit} values; send fewer records at once",
    ),
    ProblemKind.BODY_CONTAINERS: (
        "请求体中的数组和对象超过 {limit} 个",
        "the body holds more than {limit} arrays and objects",
    ),
    ProblemKind.PARAMETER: ("参数[{name}]无效，应为：{expected}", "parameter [{name}] is invalid; expected {expected}"),
    ProblemKind.KEY_MALFORMED: (
        "请求头 Idempotency-Key 必须是 1 到 255 个可见 ASCII 字符",
        "Idempotency-Key must be 1 to 255 visible ASCII characters",
    ),
    ProblemKind.KEY_REUSED: (
        "Idempotency-Key 已用于另一个请求",
        "this Idempotency-Key was used before with another request; take a new key",
    ),
    ProblemKind.OVERLOADED: ("服务繁忙，请稍后重试", "the server is busy; nothing was stored, retry later"),
    ProblemKind.STORE_DOWN: ("存储暂不可用，请稍后重试", "the store is not available at the moment; retry later"),
    ProblemKind.INTERNAL: ("服务内部错误，请求 ID：{request}", "internal error; quote request id {request}"),
    ProblemKind.MORE_PROBLEMS: ("另有 {count} 个问题未列出", "and {count} more problems, which are not listed"),
    ProblemKind.DATA_MISSING: ("参数[data]不能缺失", "[data] is missing; send an object of attribute names and values"),
    ProblemKind.DATA_NOT_OBJECT: ("参数[data]必须是 JSON 对象", "[data] must be a JSON object"),
    ProblemKind.DATA_EMPTY: ("参数[data]不能为空对象", "[data] is an empty object; send at least one attribute"),
    ProblemKind.DATA_LENGTH: (
        "参数[data]有 {members} 个成员，超过上限 {limit}",
        "[data] has {members} members; at most {limit} are allowed",
    ),
    ProblemKind.CUID_MISSING: ("参数[cuid]不能为空", "[cuid] is missing or empty"),
    ProblemKind.CUID_MALFORMED: (
        "cuid[{value}]无效，应为 1 到 9223372036854775807 的整数，或该整数的字符串形式（不含前导零）",
        "cuid [{value}] is invalid; expected an integer from 1 to 9223372036854775807, or its digits without leading zeros",
    ),
    ProblemKind.CUID_UNKNOWN: ("cuid[{cuid}]不存在", "cuid [{cuid}] does not exist in this project"),
    ProblemKind.ATTRIBUTE_UNKNOWN: ("用户属性[{attribute}]不存在", "user attribute [{attribute}] does not exist"),
    ProblemKind.VALUE_EMPTY: (
        "用户属性[{attribute}]的值不能为空",
        "the value of user attribute [{attribute}] must not be empty",
    ),
    ProblemKind.VALUE_TYPE: (
        "用户属性[{attribute}]的值[{value}]无效，{type} 类型应为：{expected}",
        "the value [{value}] of user attribute [{attribute}] is invalid; {type} expects {expected}",
    ),
    ProblemKind.NUMBER_RANGE: (
        "用户属性[{attribute}]的值[{value}]超出范围：最多 {digits} 位有效数字，指数在 ±{digits} 以内",
        "the value [{value}] of user attribute [{attribute}] is out of range:"
        " at most {digits} significant digits, exponent within ±{digits}",
    ),
    ProblemKind.STRING_LENGTH: (
        "用户属性[{attribute}]的值为 {bytes} 字节，超过上限 {limit} 字节",
        "the value of user attribute [{attribute}] has {bytes} bytes; at most {limit} are allowed",
    ),
    ProblemKind.STRING_CHARACTER: (
        "用户属性[{attribute}]的值含有不允许的字符 {character}",
        "the value of user attribute [{attribute}] holds the character {character}, which is not allowed",
    ),
    ProblemKind.DATETIME_SKIPPED: (
        "用户属性[{attribute}]的值[{value}]在时区 {zone} 中不存在（时钟调快时被跳过）",
        "the value [{value}] of user attribute [{attribute}] does not exist in time zone {zone}: a clock change skips it",
    ),
    ProblemKind.LIST_LENGTH: (
        "用户属性[{attribute}]的值有 {elements} 个元素，超过上限 {limit}",
        "the value of user attribute [{attribute}] has {elements} elements; at most {limit} are allowed",
    ),
    ProblemKind.LIST_ELEMENT_LENGTH: (
        "用户属性[{attribute}]的元素[{value}]为 {bytes} 字节，超过上限 {limit} 字节",
        "the element [{value}] of user attribute [{attribute}] has {bytes} bytes; at most {limit} are allowed",
    ),
    ProblemKind.ACCUMULATE_RANGE: (
        "用户属性[{attribute}]累计后超出范围：{stored} 加 {value}，最多 {digits} 位有效数字",
        "user attribute [{attribute}] would leave the range of a NUMBER: {stored} plus {value}"
        " needs more than {digits} significant digits",
    ),
    ProblemKind.APPEND_LENGTH: (
        "用户属性[{attribute}]追加后有 {elements} 个元素，超过上限 {limit}",
        "user attribute [{attribute}] would have {elements} elements; at most {limit} are allowed",
    ),
    ProblemKind.ROW_LENGTH: (
        "写入用户属性[{attribute}]后，该用户的数据共 {bytes} 字节，超过上限 {limit} 字节（row_limit）",
        "with user attribute [{attribute}] the user's row would have {bytes} bytes; at most {limit} are allowed (row_limit)",
    ),
    ProblemKind.IDENTITY_NAME: (
        "参数[identityName]必须是非空字符串",
        "[identityName] must be a string that is not empty: the name of an identifier",
    ),
    ProblemKind.IDENTITY_VALUES: (
        "参数[identityValues]必须是含 1 到 {limit} 个字符串的数组",
        "[identityValues] must be an array of 1 to {limit} strings",
    ),
    ProblemKind.IDENTITY_VALUE: (
        "参数[identityValues]的第 {place} 个值无效，应为 1 到 {limit} 个字符的字符串",
        "value {place} of [identityValues] is invalid; expected a string of 1 to {limit} characters",
    ),
    ProblemKind.IDENTIFIER_UNKNOWN: (
        "用户标识[{attribute}]不存在",
        "identifier [{attribute}] does not exist; declared: {have}",
    ),
    ProblemKind.IDENTIFIER_NOT_UNIQUE: (
        "用户标识[{attribute}]不具有唯一性",
        "identifier [{attribute}] is not unique, so it cannot be exchanged for a CUID",
    ),
    ProblemKind.IDENTIFIER_NOT_FIRST: (
        "用户标识[{attribute}]的优先级不是 1（当前为[{first}]）",
        "identifier [{attribute}] does not have priority 1; [{first}] has",
    ),
    ProblemKind.PROJECT_UNKNOWN: ("项目[{id}]不存在", "project [{id}] does not exist"),
    ProblemKind.PROJECT_EXISTS: ("项目[{id}]已存在", "project [{id}] exists already"),
    ProblemKind.PROJECT_CHANGED: (
        "项目已被修改：当前版本为 {now}，请求基于版本 {version}，请重新读取后再提交",
        "the project has changed: its version is {now}, not {version}; read it again, then repeat the change",
    ),
    ProblemKind.PROJECT_ID: (
        "项目 ID[{id}]无效，应为 1 到 64 个字母、数字、点、下划线或连字符，且不能是 . 或 ..",
        "project id [{id}] is invalid; expected 1 to 64 letters, digits, dots, underscores or hyphens, and neither . nor ..",
    ),
    ProblemKind.PROJECT_NAME: (
        "项目名称无效，应为 1 到 {limit} 个可见字符",
        "the project's name is invalid; expected 1 to {limit} printable characters",
    ),
    ProblemKind.SECRET: (
        "项目密钥无效，应为 1 到 {maximum} 个可见 ASCII 字符",
        "the secret is invalid; expected 1 to {maximum} visible ASCII characters",
    ),
    ProblemKind.TIMEZONE: (
        "时区[{value}]不存在，应为 IANA 名称，例如 Asia/Shanghai",
        "time zone [{value}] does not exist; expected an IANA name such as Asia/Shanghai",
    ),
    ProblemKind.QPS: (
        "QPS 上限[{value}]无效，应为 1 到 {maximum} 的整数或 unlimited",
        "QPS limit [{value}] is invalid; expected an integer from 1 to {maximum}, or unlimited",
    ),
    ProblemKind.NAME_FORM: (
        "名称[{attribute}]无效：应以小写字母开头，仅含小写字母、数字和下划线，最长 {limit} 个字符",
        "name [{attribute}] is invalid: lowercase letters, digits and underscores only, starting with a letter,"
        " at most {limit} characters",
    ),
    ProblemKind.NAME_PRESET: (
        "名称[{attribute}]无效：{prefix} 为预置项专用前缀",
        "name [{attribute}] is invalid: the prefix {prefix} is reserved for presets",
    ),
    ProblemKind.NAME_TAKEN: ("名称[{attribute}]已存在", "[{attribute}] exists already"),
    ProblemKind.TOO_MANY_ATTRIBUTES: (
        "用户属性数量已达上限 {limit}",
        "the project has {limit} attributes already, which is the limit",
    ),
    ProblemKind.RULE_ILLEGAL: (
        "用户属性[{attribute}]：{type} 类型不支持规则 {rule}，可用：{legal}",
        "attribute [{attribute}]: {type} cannot have the rule {rule}; legal: {legal}",
    ),
    ProblemKind.LIMIT_ILLEGAL: (
        "用户属性[{attribute}]的 {field} 无效，应为：{expected}",
        "{field} of attribute [{attribute}] is invalid; expected {expected}",
    ),
    ProblemKind.TEXT_TOO_LONG: (
        "[{attribute}]的 {field} 超过上限 {limit} 个字符",
        "{field} of [{attribute}] is longer than {limit} characters",
    ),
    ProblemKind.ATTRIBUTE_IN_USE: (
        "用户属性[{attribute}]已有上报数据，不能删除，可改为隐藏",
        "attribute [{attribute}] cannot be deleted: values were reported for it; hide it instead",
    ),
    ProblemKind.ATTRIBUTE_FIXED: (
        "变更被拒绝，否则会丢失或误读数据：{steps}",
        "refused, because it would lose or reinterpret data: {steps}",
    ),
    ProblemKind.IDENTIFIER_PRESET: (
        "预置标识[{attribute}]不能删除",
        "identifier [{attribute}] is a preset and cannot be deleted",
    ),
    ProblemKind.IDENTIFIER_IN_USE: (
        "用户标识[{attribute}]已有数据，不能删除",
        "identifier [{attribute}] cannot be deleted: users have values of it",
    ),
    ProblemKind.IDENTIFIER_ORDER: (
        "顺序中每个标识必须且只能出现一次：{have}",
        "the order must name every identifier once: {have}",
    ),
    ProblemKind.IDENTIFIER_TAKEN: (
        "用户标识[{attribute}]的值[{value}]已属于另一个用户",
        "the value [{value}] of identifier [{attribute}] belongs to another user",
    ),
    ProblemKind.CUID_EXISTS: ("cuid[{cuid}]已存在", "cuid [{cuid}] exists already"),
    ProblemKind.CUID_ERASED: (
        "cuid[{cuid}]对应的用户已被删除，不能再次使用",
        "cuid [{cuid}] was erased and is never used again",
    ),
    ProblemKind.CONDITION: (
        "筛选条件[{value}]无效：{expected}",
        "condition [{value}] is invalid: {expected}",
    ),
    ProblemKind.IDENTIFIER_FULL: (
        "用户[{cuid}]的标识[{attribute}]最多只能有 {limit} 个值",
        "user [{cuid}] cannot have more than {limit} value(s) of identifier [{attribute}]",
    ),
    ProblemKind.USER_UNNAMED: (
        "该行既没有 cuid，也没有用户标识的值",
        "the row has neither a cuid nor a value of an identifier",
    ),
    ProblemKind.ROW_FORM: ("该行无法读取：{reason}", "the row cannot be read: {reason}"),
    ProblemKind.COLUMN: ("列[{attribute}]无效：{expected}", "column [{attribute}]: {expected}"),
    ProblemKind.IMPORT_FILE: ("文件无法导入：{reason}", "the file cannot be imported: {reason}"),
    ProblemKind.PARQUET_LIBRARY: (
        "Parquet 需要 pyarrow 库，安装命令：pip install 'usertable[parquet]'",
        "Parquet needs the library pyarrow; install it with: pip install 'usertable[parquet]'",
    ),
    ProblemKind.IMPORT_JOB: ("导入任务[{job}]：{reason}", "import [{job}]: {reason}"),
    ProblemKind.SCHEMA_FILE: (
        "schema 文件无效，{location}：{expected}",
        "the schema file is invalid at {location}: {expected}",
    ),
}


def text(problem: Problem, language: Language) -> str:
    """The problem in words. What the caller sent is quoted in excerpts only."""
    chinese, english = TEXTS[problem.kind]
    shown = parameters(problem, language)
    return (chinese if language == "zh" else english).format(attribute=excerpt(problem.attribute or "", 120), **shown)


def parameters(problem: Problem, language: Language) -> dict[str, str]:
    """What a text about the problem names, in that language."""
    params = dict(problem.params)
    if language == "zh":
        params |= {name: _phrase_zh(params[name]) for name in ("expected", "reason") if name in params}
    return params


def _phrase_zh(phrase: str) -> str:
    if known := CHINESE_PHRASES.get(phrase):
        return known
    for form, chinese in _PHRASE_FORMS_ZH:
        if match := form.fullmatch(phrase):
            return match.expand(chinese)
    return phrase


def negotiate(accept_language: str | None, default: Language) -> Language:
    """The language that an `Accept-Language` header prefers among the two, or the default."""
    best: tuple[float, Language] = (0.0, default)
    for part in (accept_language or "").lower().split(","):
        tag, _, parameters = part.strip().partition(";")
        quality = 1.0
        if parameters.strip().startswith("q="):
            try:
                quality = float(parameters.strip()[2:])
            except ValueError:
                quality = 0.0
        primary = tag.strip().split("-")[0]
        if quality > best[0] and primary in ("zh", "en"):
            best = (quality, "zh" if primary == "zh" else "en")
    return best[1]
