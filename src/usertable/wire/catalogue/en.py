"""The texts of problems in English: by kind, with parameters in braces.

Each says what is wrong, where, and what is expected. Names and values are in brackets, for programs and logs.
"""

from __future__ import annotations

from usertable.domain.errors import ProblemKind
from usertable.domain.phrases import PhraseKind

SEPARATOR = ", "
"""Separator of a list's members."""

PROBLEMS: dict[ProblemKind, str] = {
    ProblemKind.CREDENTIALS: "authentication failed: the project id or secret is wrong, missing or malformed",
    ProblemKind.FORBIDDEN: "the key {key} is not permitted to do this; it lacks the scope {scope}",
    ProblemKind.ADMIN_ONLY: "authentication failed: this route needs the admin token ({hint})",
    ProblemKind.METRICS_ONLY: (
        "authentication failed: this route needs the metrics token (Authorization: Bearer <metrics_token>)"
    ),
    ProblemKind.RATE_LIMITED: "too many requests: the limit is {limit} per second",
    ProblemKind.NO_ROUTE: "no such route: {path}",
    ProblemKind.NO_METHOD: "method {method} is not allowed here; use {allowed}",
    ProblemKind.NOT_HTTP: "this is not a valid HTTP/1.1 request",
    ProblemKind.HTTP_VERSION: "HTTP version {version} is not supported; use HTTP/1.1",
    ProblemKind.HEAD_TOO_LARGE: "the request head is too large; the maximum is {limit} bytes and {lines} lines",
    ProblemKind.HEADER_REPEATED: "the header {name} is sent more than once; send it once",
    ProblemKind.HOST: "the Host header is missing or invalid; send one, such as Host: example.com",
    ProblemKind.TRANSFER_CODING: "unsupported Transfer-Encoding {value}; send chunked, in HTTP/1.1, or none",
    ProblemKind.EXPECTATION: "unsupported Expect {value}; send 100-continue, or none",
    ProblemKind.CONTENT_TYPE: "unsupported Content-Type {value}; send application/json",
    ProblemKind.BODY_TOO_LARGE: "the body is larger than the limit of {limit} bytes",
    ProblemKind.BODY_TIMEOUT: "the body did not arrive within {seconds} seconds",
    ProblemKind.CONTENT_CODING: "unsupported Content-Encoding {value}; send {have}, or none",
    ProblemKind.BODY_BROKEN: "the body is not valid {coding} data: {reason}",
    ProblemKind.BODY_NOT_JSON: "the body is not valid JSON: {reason}",
    ProblemKind.BODY_NOT_OBJECT: "the body must be a JSON object",
    ProblemKind.DUPLICATE_KEY: "the key [{key}] is repeated in the body",
    ProblemKind.BODY_VALUES: "the body has more than {limit} values; send fewer records at once",
    ProblemKind.BODY_CONTAINERS: "the body has more than {limit} arrays and objects",
    ProblemKind.PARAMETER: "parameter [{name}] is invalid; expected {expected}",
    ProblemKind.KEY_MALFORMED: "Idempotency-Key must be 1 to 255 visible ASCII characters",
    ProblemKind.KEY_REUSED: "this Idempotency-Key was used with another request; use a new key",
    ProblemKind.OVERLOADED: "the server is busy and nothing was stored; retry later",
    ProblemKind.STORE_DOWN: "the store is temporarily unavailable; retry later",
    ProblemKind.INTERNAL: "internal error; quote request id {request}",
    ProblemKind.MORE_PROBLEMS: "{count} more problems are not listed",
    ProblemKind.DATA_MISSING: "[data] is missing; send an object of attribute names and values",
    ProblemKind.DATA_NOT_OBJECT: "[data] must be a JSON object",
    ProblemKind.DATA_EMPTY: "[data] is an empty object; send at least one attribute",
    ProblemKind.DATA_LENGTH: "[data] has {members} members; at most {limit} are allowed",
    ProblemKind.CUID_MISSING: "[cuid] is missing or empty",
    ProblemKind.CUID_MALFORMED: (
        "cuid [{value}] is invalid; expected an integer from 1 to 9223372036854775807, or its digits without leading zeros"
    ),
    ProblemKind.CUID_UNKNOWN: "cuid [{cuid}] does not exist in this project",
    ProblemKind.ATTRIBUTE_UNKNOWN: "user attribute [{attribute}] does not exist",
    ProblemKind.VALUE_EMPTY: "the value of user attribute [{attribute}] must not be empty",
    ProblemKind.VALUE_TYPE: "the value [{value}] of user attribute [{attribute}] is invalid; {type} expects {expected}",
    ProblemKind.NUMBER_RANGE: (
        "the value [{value}] of user attribute [{attribute}] is out of range: at most {digits} significant digits,"
        " exponent within ±{digits}"
    ),
    ProblemKind.STRING_LENGTH: "the value of user attribute [{attribute}] has {bytes} bytes; at most {limit} are allowed",
    ProblemKind.STRING_CHARACTER: (
        "the value of user attribute [{attribute}] contains the character {character}, which is not allowed"
    ),
    ProblemKind.DATETIME_SKIPPED: (
        "the value [{value}] of user attribute [{attribute}] does not exist in time zone {zone}: a clock change skips it"
    ),
    ProblemKind.LIST_LENGTH: (
        "the value of user attribute [{attribute}] has {elements} elements; at most {limit} are allowed"
    ),
    ProblemKind.LIST_ELEMENT_LENGTH: (
        "the element [{value}] of user attribute [{attribute}] has {bytes} bytes; at most {limit} are allowed"
    ),
    ProblemKind.ACCUMULATE_RANGE: (
        "user attribute [{attribute}] would leave the range of a NUMBER: {stored} plus {value} needs more than"
        " {digits} significant digits"
    ),
    ProblemKind.APPEND_LENGTH: "user attribute [{attribute}] would have {elements} elements; at most {limit} are allowed",
    ProblemKind.ROW_LENGTH: (
        "with user attribute [{attribute}] the user's row would have {bytes} bytes; at most {limit} are allowed (row_limit)"
    ),
    ProblemKind.IDENTITY_NAME: "[identityName] must be the name of an identifier, a string that is not empty",
    ProblemKind.IDENTITY_VALUES: "[identityValues] must be an array of 1 to {limit} strings",
    ProblemKind.IDENTITY_VALUE: (
        "value {place} of [identityValues] is invalid; expected a string of 1 to {limit} characters"
    ),
    ProblemKind.IDENTIFIER_UNKNOWN: "identifier [{attribute}] does not exist; declared: {have}",
    ProblemKind.IDENTIFIER_NOT_UNIQUE: "identifier [{attribute}] is not unique, so it cannot be exchanged for a CUID",
    ProblemKind.IDENTIFIER_NOT_FIRST: "identifier [{attribute}] does not have priority 1; [{first}] does",
    ProblemKind.PROJECT_UNKNOWN: "project [{id}] does not exist",
    ProblemKind.PROJECT_EXISTS: "project [{id}] already exists",
    ProblemKind.PROJECT_CHANGED: (
        "the project has changed: its version is {now}, not {version}; read it again, then repeat the change"
    ),
    ProblemKind.PROJECT_ID: (
        "project id [{id}] is invalid; expected 1 to 64 letters, digits, dots, underscores or hyphens, and neither . nor .."
    ),
    ProblemKind.PROJECT_NAME: "the project's name is invalid; expected 1 to {limit} printable characters",
    ProblemKind.SECRET: "the secret is invalid; expected 1 to {maximum} visible ASCII characters",
    ProblemKind.TIMEZONE: "time zone [{value}] does not exist; expected an IANA name such as Asia/Shanghai",
    ProblemKind.QPS: "QPS limit [{value}] is invalid; expected an integer from 1 to {maximum}, or unlimited",
    ProblemKind.KEY_UNKNOWN: "key [{key}] does not exist",
    ProblemKind.KEY_NAME: (
        "key name [{key}] is invalid; expected 1 to 64 letters, digits, dots, underscores or hyphens, and neither . nor .."
    ),
    ProblemKind.KEY_EXISTS: (
        "key name [{key}] was used before; names are never reused, not even those of revoked keys: choose another"
    ),
    ProblemKind.KEY_EXPIRY: "the key would expire in the past; expected a time in the future",
    ProblemKind.KEY_REVOKED: "key [{key}] is revoked, so its secret cannot be replaced; create another key",
    ProblemKind.KEY_SECRET: "another key of the project has this secret; each key needs its own",
    ProblemKind.LAST_KEY: (
        "key [{key}] is the last one with the scope keys; without it only an admin can create keys. To revoke it, send"
        ' "confirm": true, or use --confirm on the command line'
    ),
    ProblemKind.SCOPE: "scope [{value}] does not exist; expected at least one of {legal}",
    ProblemKind.SCOPE_EXCEEDED: "scopes that the caller does not have cannot be granted: {legal}",
    ProblemKind.OVERLAP: "the overlap is invalid; expected 0 to {maximum} seconds",
    ProblemKind.TOO_MANY_KEYS: (
        "the project has {limit} keys that are not revoked, which is the maximum; revoke those that are not used"
    ),
    ProblemKind.TOO_MANY_OWN_SECRETS: (
        "the project has {limit} keys whose secret was not generated, which is the maximum; have the secret generated"
    ),
    ProblemKind.NAME_FORM: (
        "name [{attribute}] is invalid: lowercase letters, digits and underscores only, starting with a letter, at"
        " most {limit} characters"
    ),
    ProblemKind.NAME_PRESET: "name [{attribute}] is invalid: the prefix {prefix} is reserved for presets",
    ProblemKind.NAME_TAKEN: "[{attribute}] already exists",
    ProblemKind.TOO_MANY_ATTRIBUTES: "the project already has {limit} attributes, which is the maximum",
    ProblemKind.RULE_ILLEGAL: "attribute [{attribute}]: {type} cannot have the rule {rule}; allowed: {legal}",
    ProblemKind.LIMIT_ILLEGAL: "{field} of attribute [{attribute}] is invalid; expected {expected}",
    ProblemKind.TEXT_TOO_LONG: "{field} of [{attribute}] is longer than {limit} characters",
    ProblemKind.ATTRIBUTE_IN_USE: (
        "attribute [{attribute}] cannot be deleted: values were reported for it; hide it instead"
    ),
    ProblemKind.ATTRIBUTE_FIXED: "refused, because it would lose or reinterpret data: {steps}",
    ProblemKind.IDENTIFIER_PRESET: "identifier [{attribute}] is a preset and cannot be deleted",
    ProblemKind.IDENTIFIER_IN_USE: "identifier [{attribute}] cannot be deleted: users have values of it",
    ProblemKind.IDENTIFIER_ORDER: "the order must name every identifier exactly once: {have}",
    ProblemKind.IDENTIFIER_TAKEN: "the value [{value}] of identifier [{attribute}] belongs to another user",
    ProblemKind.CUID_EXISTS: "cuid [{cuid}] already exists",
    ProblemKind.CUID_ERASED: "cuid [{cuid}] was erased and cannot be used again",
    ProblemKind.CONDITION: "condition [{value}] is invalid: {expected}",
    ProblemKind.HISTORY_OFF: "history is off in project [{project}]; its setting `days` turns it on",
    ProblemKind.HISTORY_GONE: "history is kept from [{oldest}] on; ask for a later moment",
    ProblemKind.HISTORY_GAP: "changes of [{users}] users, such as cuid [{cuid}], were not recorded; the table can"
    " be exported as of [{oldest}] or later",
    ProblemKind.ATTRIBUTE_NOT_KEPT: "the values of user attribute [{attribute}] at [{moment}] are not known, because"
    " its history was off then or later; leave it out",
    ProblemKind.MOMENT_AHEAD: "parameter [{name}]: [{value}] is in the future; it is [{now}] now",
    ProblemKind.MOMENT_SKIPPED: (
        "parameter [{name}]: [{value}] does not exist in time zone {zone}, because a clock change skips it; use [{next}] or"
        " later, or a time with an offset"
    ),
    ProblemKind.USER_NOT_YET: "cuid [{cuid}] did not exist at [{moment}]; it was created at [{created}]",
    ProblemKind.EMAIL: "e-mail address [{value}] is invalid",
    ProblemKind.PERSON_NAME: "the name is invalid; expected at most {limit} printable characters",
    ProblemKind.PERSON_UNKNOWN: "person [{email}] does not exist",
    ProblemKind.PERSON_EXISTS: "e-mail address [{email}] is taken; upper and lower case are not distinguished",
    ProblemKind.NOT_FIRST: "there are already people; ask an admin for an invitation",
    ProblemKind.LAST_ADMIN: "at least one admin who can sign in must remain; make another person an admin first",
    ProblemKind.ROLE: "role [{value}] is unknown; expected one of {legal}",
    ProblemKind.PASSWORD: (
        "the password is invalid; expected at least {minimum} characters and at most {maximum} bytes, of any kind"
    ),
    ProblemKind.PASSWORD_WRONG: "the current password is wrong",
    ProblemKind.LINK_OVER: "the link was used or has expired; ask an admin for a new one",
    ProblemKind.IDENTIFIER_FULL: (
        "user [{cuid}] has the maximum number of values of identifier [{attribute}], which is {limit}"
    ),
    ProblemKind.USER_UNNAMED: "the row has neither a cuid nor an identifier value",
    ProblemKind.ROW_FORM: "the row cannot be read: {reason}",
    ProblemKind.COLUMN: "column [{attribute}]: {expected}",
    ProblemKind.IMPORT_FILE: "the file cannot be imported: {reason}",
    ProblemKind.PARQUET_LIBRARY: "Parquet needs pyarrow; install it with: pip install 'usertable[parquet]'",
    ProblemKind.IMPORT_JOB: "import [{job}]: {reason}",
    ProblemKind.SCHEMA_FILE: "the schema file is invalid at {location}: {expected}",
}

PHRASES: dict[PhraseKind, str] = {
    # values of attributes
    PhraseKind.NUMBER_FORM: "a number, or a string that is a plain number",
    PhraseKind.STRING_FORM: "a string, a number, true or false",
    PhraseKind.BOOL_FORM: "the integer 0 or 1",
    PhraseKind.DATETIME_FORM: "a string in the form yyyy-MM-dd HH:mm:ss",
    PhraseKind.LIST_FORM: "an array of strings",
    PhraseKind.LIST_CELL: "a JSON array of strings; for elements separated by a character, use --list-separator",
    PhraseKind.MOMENT_FORM: (
        "yyyy-MM-dd HH:mm:ss, where T may replace the space, and a fraction of up to nine digits and Z or an offset"
        " such as +08:00 may follow"
    ),
    PhraseKind.VALUE_IN_BOUNDS: "a value within the bounds of its type",
    # parameters
    PhraseKind.ONE_OF: "one of {choices}",
    PhraseKind.RANGE: "{minimum} to {maximum}",
    PhraseKind.OTHER_VALUE: "{expected}, got [{value}]",
    PhraseKind.NOT_BEFORE: "a moment that is not before parameter [{name}]",
    PhraseKind.NEXT_OF_PAGE: "the `next` of an earlier page for the same user",
    PhraseKind.ZERO_OR_ONE: "0 or 1",
    PhraseKind.SINGLE_VALUE: "a single value",
    PhraseKind.REQUIRED: "a value, but it is missing",
    PhraseKind.UNKNOWN_NAME: "nothing, because the name is unknown",
    PhraseKind.NUMBER_OR_UNLIMITED: "a number or unlimited",
    PhraseKind.PERCENT_ENCODED: "percent-encoded UTF-8",
    PhraseKind.VISIBLE_ASCII: "1 to {maximum} visible ASCII characters",
    PhraseKind.MAXIMUM_BYTES: "at most {limit} bytes",
    PhraseKind.IDENTIFIER_VALUE: "a string of 1 to {maximum} characters",
    PhraseKind.UNMASKED_VALUE: "the whole value, and this one is masked; `usertable export` writes whole values",
    PhraseKind.SINGLE_LINE: "printable text on one line",
    PhraseKind.UNICODE_TEXT: "Unicode text without U+0000",
    PhraseKind.LIST_ONLY: "none, because only a LIST has limits",
    PhraseKind.IDENTIFIER_AND_VALUE: "both, or neither",
    PhraseKind.DAY_OR_MOMENT: "a date such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z",
    PhraseKind.MONTH: "a month from 01 to 12",
    PhraseKind.DAY_OF_MONTH: "a day of {month}, 01 to {last}",
    PhraseKind.HOUR: "an hour from 00 to 23",
    PhraseKind.MINUTES_AND_SECONDS: "minutes and seconds from 00 to 59",
    PhraseKind.WITH_SECONDS: "a time with seconds, such as 2027-01-31 12:00:00",
    PhraseKind.PLUS_OF_OFFSET: "a + in front of the offset, which is written %2B in a URL",
    PhraseKind.PROJECT_VERSION: 'the project\'s version in quotes, as in "7", or *',
    PhraseKind.NAMES_ONCE: "each name once",
    PhraseKind.FORMATS_ONLY: "nothing, because it is only for the format {formats}",
    # records of a batch
    PhraseKind.RECORD: "an object with data, and cuid, identity or identifiers",
    PhraseKind.RECORD_MEMBERS: "nothing, because a record has only {members}",
    PhraseKind.CUID_OR_IDENTITY: "either cuid or identity, not both",
    PhraseKind.IDENTITY_OR_IDENTIFIERS: "either identity or identifiers, not both",
    PhraseKind.IDENTITY: "an object with name, and value: a string of 1 to {maximum} characters",
    PhraseKind.IDENTIFIERS: "an object with a value, or an array of values, for each identifier",
    PhraseKind.REFUSE_OR_REGISTER: "refuse or register, because a record has an identity",
    PhraseKind.REFUSE_OR_IMPORT: "refuse or import, because a record has identifiers",
    # the form of a body, as JSON has it
    PhraseKind.INTEGER: "an integer",
    PhraseKind.NUMBER: "a number",
    PhraseKind.STRING: "a string",
    PhraseKind.BOOLEAN: "a boolean",
    PhraseKind.NULL: "null",
    PhraseKind.ARRAY: "an array",
    PhraseKind.OBJECT: "an object",
    PhraseKind.OTHER_TYPE: "{expected}, got {found}",
    PhraseKind.AT_LEAST: "{type}, at least {minimum}",
    PhraseKind.AT_MOST: "{type}, at most {maximum}",
    PhraseKind.LENGTH_AT_LEAST: "{type} with a length of at least {minimum}",
    PhraseKind.LENGTH_AT_MOST: "{type} with a length of at most {maximum}",
    PhraseKind.MATCHING: "{type} that matches {pattern}",
    PhraseKind.OTHER_FORM: "another form ({detail})",
    # a body that is not JSON, or not compressed as declared
    PhraseKind.TOO_DEEP: "nested too deeply",
    PhraseKind.COMPRESSED: "it is compressed with {coding}",
    PhraseKind.OTHER_ENCODING: "it is {encoding}; expected UTF-8",
    PhraseKind.NOT_UTF8: "byte {byte} at position {position} is not UTF-8",
    PhraseKind.HALF_SURROGATE_PAIR: "{escape} at position {position} is half of a surrogate pair",
    PhraseKind.TOO_MANY_DIGITS: "a number has more than {limit} digits",
    PhraseKind.NOT_A_JSON_NUMBER: "{word} at position {position} is not a JSON number",
    PhraseKind.TRUNCATED: "it is incomplete",
    PhraseKind.TRAILING_CHARACTERS: "unexpected text after the end of the JSON value near position {position}",
    PhraseKind.TRAILING_COMMA: "a trailing comma near position {position}",
    PhraseKind.UNEXPECTED_CHARACTER: "unexpected character near position {position}",
    PhraseKind.KEY_WITHOUT_QUOTES: "a key without double quotes near position {position}",
    PhraseKind.COLON_MISSING: "a colon is missing near position {position}",
    PhraseKind.COMMA_MISSING: "a comma or a closing bracket is missing near position {position}",
    PhraseKind.INVALID_NUMBER: "invalid number near position {position}",
    PhraseKind.INVALID_ESCAPE: "invalid escape sequence near position {position}",
    PhraseKind.TRAILING_BYTES: "{count} bytes follow its end",
    PhraseKind.OTHER_FLAW: "invalid data ({detail})",
    # conditions of a filter
    PhraseKind.CONDITION_ATTRIBUTE: "it must begin with the name of a declared attribute and a colon",
    PhraseKind.CONDITION_PSEUDO_COLUMN: "the pseudo-columns are {names}",
    PhraseKind.CONDITION_OPERATOR: "the operator must be one of {operators}",
    PhraseKind.CONDITION_OPERATOR_TYPES: "{operator} is for {types}, not for {type}",
    PhraseKind.CONDITION_WITHOUT_VALUE: "{operator} takes no value",
    PhraseKind.CONDITION_TWO_VALUES: "between takes two values separated by a comma",
    PhraseKind.CONDITION_QUOTES: 'put a value that contains a comma in double quotes, as in "Washington, D.C.",Paris',
    PhraseKind.CONDITION_INTEGER: "{name} is a 64-bit integer",
    PhraseKind.MAXIMUM_CONDITIONS: "at most {limit} conditions in a filter",
    PhraseKind.MAXIMUM_VALUES: "at most {limit} values in a filter",
    # who may do what
    PhraseKind.ADMIN_TOKEN_HEADER: "Authorization: Bearer <token>",
    PhraseKind.ADMIN_TOKEN_UNSET: "none is set; set admin_token",
    PhraseKind.QPS_OF_OPERATOR: "only the operator can change the QPS limit",
    # steps of a plan that are refused
    PhraseKind.CHANGE_ATTRIBUTE: "change attribute {name}: {detail}",
    PhraseKind.CHANGE_IDENTIFIER: "change identifier {name}: {detail}",
    PhraseKind.DELETE_ATTRIBUTE: "delete attribute {name}: {detail}",
    PhraseKind.DELETE_IDENTIFIER: "delete identifier {name}: {detail}",
    PhraseKind.TYPE_FIXED: "{before} cannot become {after}; declare a new attribute",
    PhraseKind.UNIQUENESS_FIXED: "its uniqueness is fixed",
    PhraseKind.ATTRIBUTE_LEFT_OUT: "it is missing from the file; hide it, or delete it by its own command",
    PhraseKind.IDENTIFIER_LEFT_OUT: "it is missing from the file",
    # rows of a file
    PhraseKind.NOT_A_JSON_OBJECT: "not a JSON object: {reason}",
    PhraseKind.NOT_AN_OBJECT: "it is not an object",
    PhraseKind.REPEATED_MEMBER: "the member {key} is repeated",
    PhraseKind.SAME_MEMBER: "another member is imported to the same",
    PhraseKind.UNNAMED_MEMBER: "the member has no name, and contains [{value}]; name it",
    PhraseKind.LONG_ROW: "a line has more than {limit} bytes",
    PhraseKind.UNREAD_LINE: "{column} contains a line that could not be read; fix it",
    PhraseKind.CELL_COUNT: "it has {cells} cells, and the header has {columns}",
    PhraseKind.IN_COLUMN: "in {column}: {reason}",
    PhraseKind.SPACE_BEFORE_QUOTE: "cell {cell} has a space before its quote; remove the space",
    PhraseKind.UNCLOSED_FORMULA: 'cell {cell} begins with =" and does not end with a quote; write it as "text"',
    PhraseKind.CSV_FLAW: "{detail}",
    PhraseKind.UNCLOSED_QUOTE: "{detail}; is a quote not closed?",
    PhraseKind.TEXT_AFTER_QUOTE: (
        "{detail}; remove the space or text after the closing quote, or double the quotes inside the cell"
    ),
    PhraseKind.NOT_IN_ENCODING: "the byte {byte} is not {encoding}; name the file's encoding with --encoding",
    PhraseKind.NOT_IN_ENCODING_FROM: "it is not {encoding} from its byte {position} on: {detail}",
    PhraseKind.MARK_INSIDE: "it has a byte order mark inside, as concatenated files have; remove the mark",
    PhraseKind.CELL_NOT_UTF8: "column [{column}] contains the byte {byte}, which is not UTF-8",
    PhraseKind.DATE_FORMAT: "a date and time in the format {formats}",
    PhraseKind.DECIMAL_COMMA: "a number with a decimal comma, such as 1234,5 or 1.234,5",
    PhraseKind.NUMBER_COLUMN: "a column of numbers",
    PhraseKind.NOT_FINITE: "a number, and {value} is not one; use --null {value} to treat it as an empty cell",
    # columns of a file
    PhraseKind.UNNAMED_COLUMN: (
        "the column has no name, and contains [{value}]; name it in the header, or with --map '{column}=NAME', or"
        " leave it out with --map '{column}='"
    ),
    PhraseKind.IN_ROW: "{reason} (row {row})",
    PhraseKind.FROM_CONSOLE: (
        "it was downloaded from the console, where identifiers are masked and texts are escaped for spreadsheets;"
        " import a file written by `usertable export`"
    ),
    PhraseKind.ESCAPED_FOR_SPREADSHEETS: (
        "its texts are escaped for spreadsheets; import a file written by `usertable export` without --escape-formulas"
    ),
    PhraseKind.MASKED_COLUMN: (
        "the values of column [{column}] are masked; leave it out with --map '{column}=', or import a file that was"
        " exported without --identifiers masked"
    ),
    PhraseKind.AMBIGUOUS_COLUMN: "{name} is both an attribute and an identifier; use one of {ways}",
    PhraseKind.UNDECLARED_COLUMN: (
        "{name} is neither cuid nor a declared attribute or identifier; name one with --map '{column}=NAME', or leave"
        " the column out with --map '{column}='"
    ),
    PhraseKind.SAME_TARGET: "it is imported to the same as column [{column}]; leave one of them out",
    PhraseKind.MISSING_COLUMN: "it is mapped, but the file does not have it; it has {columns}",
    PhraseKind.NO_USER_COLUMN: "no column is the cuid or an identifier, so the users of the rows are unknown",
    PhraseKind.COLUMN_TYPE: (
        "it contains values of the type {type}, and {accepted}; or leave the column out with --map '{column}='"
    ),
    PhraseKind.INT96_TIMESTAMPS: (
        "it contains timestamps of the type INT96, which do not say whether they are in UTC; write them as TIMESTAMP"
        " (in Spark: spark.sql.parquet.outputTimestampType=TIMESTAMP_MICROS); or leave the column out with --map"
        " '{column}='"
    ),
    PhraseKind.ENCRYPTED_COLUMN: "it is encrypted; write the file without encryption",
    PhraseKind.CUID_TYPES: "a cuid is an integer, or a string of its digits",
    PhraseKind.UNIQUE_IDENTIFIER_TYPES: "{name} takes strings and integers",
    PhraseKind.IDENTIFIER_TYPES: "{name} takes strings, integers, and lists of them",
    PhraseKind.NUMBER_TYPES: "{name} is a NUMBER, which takes numbers, or strings that are numbers",
    PhraseKind.STRING_TYPES: "{name} is a STRING, which takes strings, numbers and booleans",
    PhraseKind.BOOL_TYPES: "{name} is a BOOL, which takes booleans, or 0 and 1",
    PhraseKind.BOOL_WORD_TYPES: "{name} is a BOOL, which takes booleans, 0 and 1, and strings",
    PhraseKind.DATETIME_TYPES: "{name} is a DATETIME, which takes timestamps, or strings of dates and times",
    PhraseKind.LIST_TYPES: "{name} is a LIST, which takes lists of strings, or strings that are JSON arrays",
    # a file that cannot be imported
    PhraseKind.SYSTEM_ERROR: "{detail}",
    PhraseKind.READER_ENDED: "the process that reads it ended with {signal}; the file may be damaged",
    PhraseKind.READER_KILLED: "the process that reads it was killed; there may be too little memory",
    PhraseKind.NOT_COMPRESSED: (
        "its name says that it is compressed with {coding}, but it is not, is damaged or is cut off: {detail}"
    ),
    PhraseKind.UNPACK_FIRST: (
        "it is compressed with {coding}; unpack it first: `{command} FILE | usertable import - --format …`"
    ),
    PhraseKind.RENAME_OR_UNPACK: (
        "it is compressed with {coding}; rename it so that its name ends in {ending}, or unpack it:"
        " `{command} FILE | usertable"
        " import - --format …`"
    ),
    PhraseKind.ZIP_FILE: "it is a zip archive, as an Excel workbook (.xlsx) is; in the spreadsheet, save it as CSV UTF-8",
    PhraseKind.EXCEL_FILE: "it is an Excel workbook (.xls); in the spreadsheet, save it as CSV UTF-8",
    PhraseKind.PARQUET_FILE: "it is a Parquet file; use --format parquet",
    PhraseKind.ARROW_FILE: "it is an Arrow (Feather) file; write it as Parquet",
    PhraseKind.JSON_FILE: "its first line is JSON, not a CSV header; use --format ndjson",
    PhraseKind.JSON_ARRAY: (
        "it is a JSON array, and NDJSON has one object per line; convert it, for example with `jq -c '.[]' FILE`"
    ),
    PhraseKind.JSON_DOCUMENT: (
        "it has a JSON object over several lines, and NDJSON has one object per line; convert it, for example with `jq"
        " -c . FILE`"
    ),
    PhraseKind.JSON_DOCUMENT_ENTRIES: (
        "it has a JSON object over several lines, and NDJSON has one object per line; convert it, for example with `jq"
        " -c . FILE`, or its entries with `jq -c '.{member}[]' FILE`"
    ),
    PhraseKind.EMPTY_FILE: "it is empty; the first line must name the columns",
    PhraseKind.EMPTY_HEADER: "its first line is empty, and must name the columns",
    PhraseKind.HEADER_FLAW: "its header is not CSV: {reason}",
    PhraseKind.DELIMITER_TWICE: (
        "its first line sets the delimiter {said!r}, but --delimiter is {delimiter!r}; omit --delimiter"
    ),
    PhraseKind.OTHER_DELIMITER: "its header is not separated by {delimiter!r}; use --delimiter '{other}'",
    PhraseKind.LONG_LINE: "line {line} has more than {limit} bytes",
    PhraseKind.MARK_MISSING: "it looks like {encoding} without a byte order mark; use --encoding {encoding}",
    PhraseKind.MARK_NEEDED: (
        "--encoding {encoding} is for a file with a byte order mark, which this one lacks; use one of {encodings}"
    ),
    PhraseKind.OTHER_MARK: "it starts with the byte order mark of {marked}, but --encoding is {encoding}; omit --encoding",
    PhraseKind.UNKNOWN_ENCODING: (
        "line {line} is not UTF-8, and nothing says what it is; name the file's encoding with --encoding, such as one"
        " of {encodings}. If it is UTF-8 with some broken bytes, --encoding utf-8 rejects only the rows that have them"
    ),
    PhraseKind.LIKELY_ENCODINGS: (
        "line {line} is not UTF-8, and nothing says what it is; name the file's encoding with --encoding: it has"
        " {readings}. If it is UTF-8 with some broken bytes, --encoding utf-8 rejects only the rows that have them"
    ),
    PhraseKind.READING: "`{text}` as {encoding}",
    PhraseKind.OTHER_ROWS: (
        "its first {rows} rows are not those imported before; use the same file, or start over with --restart"
    ),
    PhraseKind.NOT_PARQUET: "it is not a complete Parquet file: {detail}",
    PhraseKind.PARQUET_ROW_COUNTS: "it is damaged: its footer says {rows} rows, and its row groups {groups}",
    PhraseKind.PARQUET_ENDS: "it is damaged: it ends after row {row} of {rows}",
    PhraseKind.PARQUET_DAMAGED: "it is damaged after row {row}: {detail}",
    PhraseKind.ENCRYPTED_FOOTER: "it is a Parquet file with an encrypted footer; write it without encryption",
    PhraseKind.MAP_FILE: "--map-file, line {line}: {reason}",
    PhraseKind.MAP_FORM: "it must map each column to a name, or to nothing",
    PhraseKind.MAPPED_TWICE: "the column {column} is mapped twice",
    PhraseKind.STATE_FILE: "the state file {path} {reason}",
    PhraseKind.STATE_NOT_REGULAR: "is not a regular file; name another with --state",
    PhraseKind.STATE_UNWRITABLE: "cannot be written: {detail}; name another with --state",
    PhraseKind.STATE_IN_USE: "is in use by another process",
    PhraseKind.STATE_DAMAGED: "is not a state file, or is damaged; move it, or name another with --state",
    # an import that cannot resume
    PhraseKind.OTHER_OPTIONS: "it was started with other options; resume it with the same options",
    PhraseKind.INTERRUPTED: (
        "it was interrupted after row {rows}; resume it with --resume, or import all rows again with --restart"
    ),
    PhraseKind.MORE_ROWS: (
        "it was finished with row {rows}, and the file has more rows now; import those as a separate file, or omit"
        " --resume to import all rows again"
    ),
    PhraseKind.PROJECT_EDITED: "the project was changed meanwhile; run the import again with --resume",
    PhraseKind.RUNS_ELSEWHERE: "another process is running it",
    PhraseKind.REJECTS_NOT_REGULAR: (
        "{path} is not a regular file, so rejected rows cannot be written to it; name another with --rejects"
    ),
    PhraseKind.REJECTS_UNWRITABLE: "the rejects file {path} cannot be written: {detail}; name another with --rejects",
    PhraseKind.REJECTS_IN_USE: "the rejects file {path} is in use by another process; name another with --rejects",
    PhraseKind.REJECTS_EXIST: "the rejects file {path} already exists; move it, or name another with --rejects",
    PhraseKind.REJECTS_CUT: (
        "the rejects file {path} has {found} bytes, but {written} were written to it; restore it. If it is lost, find"
        " its rows among those already read, and import the rows after those as a separate file"
    ),
    PhraseKind.REJECTS_GONE: "the rejects file {path} was deleted or replaced; restore it, and resume with --resume",
    PhraseKind.OTHER_PROJECT: "its position is of project {project} at {url}; use these, or another file with --state",
    PhraseKind.CLIENT_ERROR: "{detail}",
    PhraseKind.OTHER_VERSION: "the server at {url} runs another version: {detail}",
    PhraseKind.SENT_TOO_LONG_AGO: (
        "rows {first} to {last} may have been stored, and were sent {hours} hours ago; the server remembers that for"
        " {kept} hours, less a margin of an hour. Sent again, they could be applied twice. Check which of them are"
        " stored; then import the others as a separate file"
    ),
    PhraseKind.SENT_IN_THE_FUTURE: (
        "rows {first} to {last} may have been stored, and were sent at a time that is in the future by this machine's"
        " clock. Sent again, they could be applied twice. Check which of them are stored; then import the others as a"
        " separate file"
    ),
    PhraseKind.ROW_CHANGED: (
        "row {row} was sent before with other content; was the file or the project's time zone changed?"
    ),
    PhraseKind.WRONG_SECRET: "the server at {url} rejected project {project} with that secret: {detail}",
    PhraseKind.WRONG_TOKEN: "the server at {url} rejected the admin token: {detail}",
    PhraseKind.NOT_A_SERVER: "{url} is not a usertable server that accepts batches; check the URL. {detail}",
    PhraseKind.SERVER_ANSWERED: "the server at {url} answered: {detail}",
    # a schema file
    PhraseKind.NOT_YAML: "not valid YAML: {detail}",
    PhraseKind.YAML_IN_UTF8: "a YAML file in UTF-8",
    PhraseKind.YAML_VERSION: "it is YAML {version}, and 1.2 is read; remove %YAML",
    PhraseKind.FILE_KEYS: "the file has the keys attributes and identifiers",
    PhraseKind.ATTRIBUTE_KEYS: "an attribute has the keys {keys}",
    PhraseKind.IDENTIFIER_KEYS: "an identifier has the keys {keys}",
    PhraseKind.EXPECTED_MAPPING: "expected a mapping: {keys}",
    PhraseKind.UNKNOWN_KEY: "unknown key [{key}]; {keys}",
    PhraseKind.REPEATED_KEY: "the key {key} is repeated",
    PhraseKind.REPEATED_ATTRIBUTE: "the attribute {name} is repeated",
    PhraseKind.REPEATED_IDENTIFIER: "the identifier {name} is repeated",
    PhraseKind.ATTRIBUTE_NEEDS_KEY: "an attribute needs the key {key}, which is missing",
    PhraseKind.IDENTIFIER_NEEDS_KEY: "an identifier needs the key {key}, which is missing",
    PhraseKind.KEY_LIST: "{key} must be a list",
    PhraseKind.KEY_CHOICE: "{key} must be one of {choices}",
    PhraseKind.KEY_STRING: "{key} must be a string; put it in quotes",
    PhraseKind.KEY_BOOLEAN: "{key} must be true or false",
    PhraseKind.KEY_INTEGER: "{key} must be an integer",
}
"""The texts of phrases."""

SINGULARS: dict[ProblemKind | PhraseKind, tuple[str, str]] = {
    ProblemKind.BODY_TIMEOUT: ("seconds", "the body did not arrive within {seconds} second"),
    ProblemKind.MORE_PROBLEMS: ("count", "{count} more problem is not listed"),
    ProblemKind.LIST_LENGTH: (
        "limit",
        "the value of user attribute [{attribute}] has {elements} elements; at most {limit} is allowed",
    ),
    ProblemKind.LIST_ELEMENT_LENGTH: (
        "limit",
        "the element [{value}] of user attribute [{attribute}] has {bytes} bytes; at most {limit} is allowed",
    ),
    ProblemKind.APPEND_LENGTH: (
        "limit",
        "user attribute [{attribute}] would have {elements} elements; at most {limit} is allowed",
    ),
    ProblemKind.TOO_MANY_ATTRIBUTES: ("limit", "the project already has {limit} attribute, which is the maximum"),
    PhraseKind.TRAILING_BYTES: ("count", "{count} byte follows its end"),
    PhraseKind.CELL_COUNT: ("cells", "it has {cells} cell, and the header has {columns}"),
    PhraseKind.OTHER_ROWS: (
        "rows",
        "its first row is not the one imported before; use the same file, or start over with --restart",
    ),
    PhraseKind.PARQUET_ROW_COUNTS: ("rows", "it is damaged: its footer says {rows} row, and its row groups {groups}"),
    PhraseKind.REJECTS_CUT: (
        "found",
        "the rejects file {path} has {found} byte, but {written} were written to it; restore it. If it is lost, find"
        " its rows among those already read, and import the rows after those as a separate file",
    ),
}
"""Texts for one of what a parameter counts: the name of the parameter, and the text."""
