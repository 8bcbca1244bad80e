-- A SQLite store of version 11, made and filled by the usertable of that time.

PRAGMA page_size = 2048;
PRAGMA application_id = 1970561585;
PRAGMA user_version = 11;
BEGIN TRANSACTION;
CREATE TABLE arrival (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  project  INTEGER NOT NULL,
  refused  INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  cuid     INTEGER,
  document TEXT NOT NULL
) STRICT;
CREATE TABLE arrival_rate (
  project  INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  accepted INTEGER NOT NULL,
  refused  INTEGER NOT NULL,
  sampled  INTEGER NOT NULL,
  PRIMARY KEY (project, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE arrival_refusal (
  project   INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  kind      TEXT NOT NULL,
  attribute TEXT NOT NULL,
  count     INTEGER NOT NULL,
  last      INTEGER NOT NULL,
  PRIMARY KEY (project, at, kind, attribute)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
  project INTEGER NOT NULL,
  number  INTEGER NOT NULL,
  first   INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  facts   TEXT NOT NULL,
  request TEXT NOT NULL,
  address TEXT NOT NULL,
  PRIMARY KEY (project, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "audit" VALUES(0,1,1,1700000000000,'cli:test','create project','one','{"after":{"name":"one","timezone":"Asia/Shanghai","qps":100}}','','');
INSERT INTO "audit" VALUES(0,2,2,1700000000000,'cli:test','create project','two','{"after":{"name":"two","timezone":"Asia/Shanghai","qps":100}}','','');
INSERT INTO "audit" VALUES(0,3,3,1700000000010,'cli:test','create person','ann@example.com','{"after":{"name":"Ann","admin":true,"disabled":false,"roles":[]}}','','');
INSERT INTO "audit" VALUES(0,4,4,1700000000010,'cli:test','create person','bo@example.com','{"after":{"name":"Bo","admin":false,"disabled":false,"roles":["two=editor"]}}','','');
INSERT INTO "audit" VALUES(1,1,1,1700000000000,'cli:test','create project','','{"after":{"name":"one","timezone":"Asia/Shanghai","qps":100}}','','');
INSERT INTO "audit" VALUES(1,2,2,1700000000000,'cli:test','declare attribute','user_number_overwrite','{"after":{"type":"NUMBER","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(1,3,2,1700000000000,'cli:test','declare attribute','user_number_once','{"after":{"type":"NUMBER","rule":"once"}}','','');
INSERT INTO "audit" VALUES(1,4,2,1700000000000,'cli:test','declare attribute','user_number_accumulate','{"after":{"type":"NUMBER","rule":"accumulate"}}','','');
INSERT INTO "audit" VALUES(1,5,2,1700000000000,'cli:test','declare attribute','user_string_overwrite','{"after":{"type":"STRING","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(1,6,2,1700000000000,'cli:test','declare attribute','user_string_once','{"after":{"type":"STRING","rule":"once"}}','','');
INSERT INTO "audit" VALUES(1,7,2,1700000000000,'cli:test','declare attribute','user_bool_overwrite','{"after":{"type":"BOOL","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(1,8,2,1700000000000,'cli:test','declare attribute','user_bool_once','{"after":{"type":"BOOL","rule":"once"}}','','');
INSERT INTO "audit" VALUES(1,9,2,1700000000000,'cli:test','declare attribute','user_datetime_overwrite','{"after":{"type":"DATETIME","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(1,10,2,1700000000000,'cli:test','declare attribute','user_datetime_once','{"after":{"type":"DATETIME","rule":"once"}}','','');
INSERT INTO "audit" VALUES(1,11,2,1700000000000,'cli:test','declare attribute','user_list_overwrite','{"after":{"type":"LIST","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(1,12,2,1700000000000,'cli:test','declare attribute','user_list_once','{"after":{"type":"LIST","rule":"once"}}','','');
INSERT INTO "audit" VALUES(1,13,2,1700000000000,'cli:test','declare attribute','user_list_append','{"after":{"type":"LIST","rule":"append"}}','','');
INSERT INTO "audit" VALUES(1,14,2,1700000000000,'cli:test','declare identifier','phone','{"after":{"unique":true}}','','');
INSERT INTO "audit" VALUES(1,15,15,0,'cli:test','erase user','10000003','{}','','');
INSERT INTO "audit" VALUES(2,1,1,1700000000000,'cli:test','create project','','{"after":{"name":"two","timezone":"Asia/Shanghai","qps":100}}','','');
INSERT INTO "audit" VALUES(2,2,2,1700000000000,'cli:test','declare attribute','user_number_overwrite','{"after":{"type":"NUMBER","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(2,3,2,1700000000000,'cli:test','declare attribute','user_number_once','{"after":{"type":"NUMBER","rule":"once"}}','','');
INSERT INTO "audit" VALUES(2,4,2,1700000000000,'cli:test','declare attribute','user_number_accumulate','{"after":{"type":"NUMBER","rule":"accumulate"}}','','');
INSERT INTO "audit" VALUES(2,5,2,1700000000000,'cli:test','declare attribute','user_string_overwrite','{"after":{"type":"STRING","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(2,6,2,1700000000000,'cli:test','declare attribute','user_string_once','{"after":{"type":"STRING","rule":"once"}}','','');
INSERT INTO "audit" VALUES(2,7,2,1700000000000,'cli:test','declare attribute','user_bool_overwrite','{"after":{"type":"BOOL","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(2,8,2,1700000000000,'cli:test','declare attribute','user_bool_once','{"after":{"type":"BOOL","rule":"once"}}','','');
INSERT INTO "audit" VALUES(2,9,2,1700000000000,'cli:test','declare attribute','user_datetime_overwrite','{"after":{"type":"DATETIME","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(2,10,2,1700000000000,'cli:test','declare attribute','user_datetime_once','{"after":{"type":"DATETIME","rule":"once"}}','','');
INSERT INTO "audit" VALUES(2,11,2,1700000000000,'cli:test','declare attribute','user_list_overwrite','{"after":{"type":"LIST","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(2,12,2,1700000000000,'cli:test','declare attribute','user_list_once','{"after":{"type":"LIST","rule":"once"}}','','');
INSERT INTO "audit" VALUES(2,13,2,1700000000000,'cli:test','declare attribute','user_list_append','{"after":{"type":"LIST","rule":"append"}}','','');
INSERT INTO "audit" VALUES(2,14,2,1700000000000,'cli:test','declare identifier','phone','{"after":{"unique":true}}','','');
INSERT INTO "audit" VALUES(2,15,15,1700000000010,'cli:test','create key','billing','{"after":{"scopes":["write"]}}','','');
INSERT INTO "audit" VALUES(2,16,16,1700000000010,'cli:test','create key','old','{"after":{"scopes":["read"]}}','','');
INSERT INTO "audit" VALUES(2,17,17,1700000000010,'cli:test','revoke key','old','{}','','');
INSERT INTO "audit" VALUES(2,18,18,1700000000010,'cli:test','edit member','bo@example.com','{"after":{"role":"editor"}}','','');
INSERT INTO "audit" VALUES(2,19,19,1796109373405,'cli:test','add user','20000001','{}','','');
INSERT INTO "audit" VALUES(2,20,20,1796109373405,'cli:test','add user','20000002','{}','','');
CREATE TABLE console_session (
  digest  BLOB PRIMARY KEY,
  person  TEXT NOT NULL,
  begun   INTEGER NOT NULL,
  seen    INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  address TEXT NOT NULL,
  browser TEXT NOT NULL,
  proof   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE epoch (value INTEGER NOT NULL) STRICT;
INSERT INTO "epoch" VALUES(7);
CREATE TABLE erased (
  project INTEGER NOT NULL,
  cuid    INTEGER NOT NULL,
  PRIMARY KEY (project, cuid)
) STRICT, WITHOUT ROWID;
INSERT INTO "erased" VALUES(1,10000003);
CREATE TABLE history (
  project INTEGER NOT NULL,
  block   INTEGER NOT NULL,
  last    INTEGER NOT NULL,
  changes INTEGER NOT NULL,
  latest  INTEGER NOT NULL,
  body    BLOB NOT NULL,
  PRIMARY KEY (project, block)
) STRICT;
INSERT INTO "history" VALUES(2,23,23,2,1796195794405,X'28B52FFD602B00E50400D2891F1E6067E20630344B8F31DC862023728B80200E497DFDF472E94E2BC330A504CCCC7B05D8554C5D42BF9512786CA79A41EB44013230D55CC27C7E9C33269EE3006B04222197A8754EDDEB1EDBA5F50EAF5048A83572780CB54E1E9E834703536B2944E0A009F079234B610A934696620EC3688039F46553AFDFBDE63ECF090A007E3020019DD03C569568BB6C1C2878452551D7703111B7000E');
INSERT INTO "history" VALUES(2,24,24,2,1796195795405,X'28B52FFD602500BD040072491E1D7025D6015023D56F4015D5938F4B08AAAA6813882548D05626AFAA260CCCCC3AEC77D8D5D45D4147D79E7C364C9EC0EB8761004BF2A0C3BC5EAC736AAE27B274D334069DC49D95D8EF3E1B361795781C8DBD2E287161AF9D986BE513710C61A003F2E80AA5A4505246A10C1D18853E2DD2EB89BDA23D5A2B0A007A30A0009DCF3C569568BB6C1C28784525A16BB698100B000E');
INSERT INTO "history" VALUES(2,25,25,2,1796195796405,X'28B52FFD602D00DD0400B2491F1D70A5D5014059B72CEA4FFB1BD19F2DFEFF775E8FB5A9FDC0C855D50003CCCC3BECD1B07B74D10E7ABE56D06B4B170962170658025D940BF37AB1CEBABAAE01B00984C6E4E2DE19A93DDA6BCBF6A63211A4B1D88732218BBD4C5D4BAF0974EFB903A0A005F4E6CA24A54C228C421987308AF3B4E6FC3CED8FD99BB5020A007E3020019DD03C569568BB6C1C28784525A16BA298100B000E');
INSERT INTO "history" VALUES(2,26,26,2,1796195797405,X'28B52FFD602500BD040072491E1C7025D6015023D56F40038D938F4B08AAAA6813ADE4856CB17255B5C0CCCCC4B057C36E52426DA0277C8F5E5B261120F6C338C29244E930B7B3765642DB1559BA699E934E02CF05DBABBDB67C702AF3389E8B3D50E6E2623B535BD32B0219414017F4E80BA96221C50CB68C54182C5D2D4A4F5FFB84F6A8B50A007A30A0009DCF3C569568BB6C1C28784525A16BB698100B000E');
INSERT INTO "history" VALUES(2,27,27,2,1796195798405,X'28B52FFD602D00E50400B2891F1E7037D50110208B0CB1AF0895E8C756FAFFAD84695A9390922D56D6FF9710CCCCA6D89F62B7A4394BE8D856229F0DD933789D285006C71E4C98D3513AA7C9F41C708D402C0513D6CEAA003FFB6CB85A3CC44261A9D7C8213AF53A8999523E0D8EB5C610818326C8EB8F1A74D4041CE81CC53850B9592D2F37F645F79A520A007E3020019DD03C569568BB6C1C28784525A16BA298100B000E');
INSERT INTO "history" VALUES(2,28,28,2,1796195799405,X'28B52FFD602500CD040072C91E1D7025D6015023D56F4015D5930F4B0AFAFFAB6E2C890D215BAC5C552D30CCCC69D8AB611769523BE8095FA3D796472488DD284E2039A26498DB573B6BD27635925E96E72473C0735AC2D55E5B3E38915914CFC50E4066E26233535BD3AB011580821ED09FA74314D221185B8921C5163AB1071D7DEDD1D99FD6020A007A30A0009DCF3C569568BB6C1C28784525A16BB698100B000E');
INSERT INTO "history" VALUES(2,29,29,2,1796195800405,X'28B52FFD602D00ED0400D2C91F1D6067AA033090EEC7148F2293895B0208024D9BDAFE9332225AE0920457CCCC86B03F845D92E62C40C7B616F96CC89EC1EB45814238F6E0C19C7ED2394DA6E7806B85622978B0762625E0679F0D578B8978382CF5DA90884EBD3E62A6944F8463AD3183C04113E4F5450D844E5143B5501031E8901BABE4E4853DD1BDA6140A007E3020019DD03C569568BB6C1C2878452541D770311F16001C');
INSERT INTO "history" VALUES(2,30,30,2,1796195801405,X'28B52FFD602500CD040072C91E1E7025D6015023D56F4015D5930F4B0AFAFFAB1A61581452A062E5AA6A8101CCCC69D8AB611765523BE8E8DA93CF86C92378FD304C60491E7498D7D33AA7E67A224B374D63D049DC5925C2D53E1B361795781C8DBD0E50E2C25E3B31D7CA27E21880821EC8EB0B25B45002A92A0C5430123AB18A8E6EEC91EE75AD0A007A30A0009DCF3C569568BB6C1C28784525A16BB698100B000E');
INSERT INTO "history" VALUES(2,31,31,2,1796195802405,X'28B52FFD602D00E50400B2891F1E6067E20630344B8F31DC862013DC442008424D8FE249E5F63B2D6C519415CCCC88B137C6AE226216A0DF4A0B3CB653CDA0F5A20021986A2E613E2F9C332A9EE3006B85222197A8752664B9D963BBB45EE21D0E09B536241E43AD9387E7E011C1D45ACA2070D004F8FC91458F2C9BC86194600AFAB2A9D767C035F7794E0A007E3020019DD03C569568BB6C1C28784525A16BA298100B000E');
INSERT INTO "history" VALUES(2,32,32,2,1796195803405,X'28B52FFD602300C5040062891E1D6035D6019895FB7FA063C708E212322449C0A09A926D85EE54608BA2ACCCCC6C809ED0518636097AC2D7E8B5E5110562378A03488E2819E676A29D1569BB1A492FCB739239E07925F54DD7960F4E6416C573B10FC84C5C6C666A6B7A35A06218E800FD7EAD426B55DAC26287C0887385F6FCFCA49F45DFD6020A007A30A0009DCF3C569570BB141C28784525A16BB698100B000E');
INSERT INTO "history" VALUES(2,33,33,2,1796195804405,X'28B52FFD602B00DD040092491F1E7037D50110208B0CB1AF0895E8C756FAFFAD84D566646B445726EBFF6708CCCCE60B60CAA6AE21746C2B91CF86EC19BC4E142883630F26CCE9463AA7C9F41C708D402C0513D6CEA8385FF36CB85A3CC44261A9D7C8213AF53A8999523E0D8EB5C610818326C8EB911E83F41C0D40C71687B13F45F7FB62BE5AAE29050A007E3020019DD03C569568BB6C1C28784525A16BA298100B000E');
INSERT INTO "history" VALUES(2,34,34,2,1796195805405,X'28B52FFD602500CD040072C91E1D7025D6015023D56F4015D5938F4B08AAAA68B4007609F55726AFAA260CCCCC3BA8A741A5D54D4AD013BE47AF2D932810FB611CC09244E930B717EDAC4BDB1559BA699E934E02CF84B19ED4B5E5835399C7F15CEC82321717DB99DA9A5E11C810063A408FCED05A0C2D8606CC58C228F62BA1FD5EA92F4A47AD050A007A30A0009DCF3C569568BB6C1C28784525A16BB698100B000E');
INSERT INTO "history" VALUES(2,35,35,2,1796195806405,X'28B52FFD602D00E50400B2891F1D70A5D5014059B72CDA91F668447FB6F8FFDFE9FFBFA7D95F99BCAABA30CCCC88D82FB1E828DA1DF47CEDA0D7962E12C43E0C300274512ECCEBC63AABD2750D806D30342617F7CE0752DFBDB66C6F16A6A234163B294CC8622F53D7D22B01BAF75C0250D0027A736592522615E650C82910E33C21737E9EF6C7A09BB5020A007E3020019DD03C569568BB6C1C28784525A16BA298100B000E');
INSERT INTO "history" VALUES(2,36,36,2,1796195807405,X'28B52FFD602500CD040072C91E1D7025D6015023D56F4015D5938F4B08AAAA68B400B7FC055126AFAA1E0CCCCC6948574322902695043DE17BF4DA328902B11FC6012C49940E737BD1CECAB45D91A59BE639E924F08CD8BA4AD7960F4E651EC773B10BCA5C5C6C676A6B7A45204318E800FD7EAD626B55B18365206614E88A5874F4958E96F8B6160A007A30A0009DCF3C569568BB6C1C28784525A16BB698100B000E');
INSERT INTO "history" VALUES(2,37,37,2,1796195808405,X'28B52FFD602D00ED0400024A201E60B57103B0E8A71EC3783DCC8E6693E928023B18A842C4F23B59AC61E015CCCCC83857E31C66CFCC88F40CFA31B5C0632FCB11B85E0C24445B6E5198F7C89E31718F01AD150A951665B1B3267A3DC75E147B897738A8E4DA90782DB9561EEEE211D11663CB0050D002F8BC26423451210B9A18428298A323CDCD09E7268FE76E09007E3020015DA1797C1738021AAFA824744D14136201C001');
INSERT INTO "history" VALUES(2,38,38,2,1796195809405,X'28B52FFD602500CD040072C91E1D60A5AA0318BA5920A27E1A42869A5C18A640FF27D1586CA712B628CA0ACCCC6B50678322922EA6023DE18BF4DA728900B123C7119A254A88B9DD68674DDAAE4AD3CFF39C8416785EC5CED4B5E583939949F25CEC01331B171B9ADA9A5E15E80802BAA0DFAF2D8EB505B2C74212438CF482D8F474433D2DF16D2D0A007A30A0009DCF3C569568BB6C1C28784525A16BB698100B000E');
INSERT INTO "history" VALUES(2,39,39,2,1796195810405,X'28B52FFD602D00DD040082C91E1C6025D60158E856B0C6E36864D846415104B6670D68F7774A620D03AFCCCC4B5067824A68175383AEF135FB6D0A27C1EC66C025124ECA30B7B376DEB4ED1B207B599EA30C8CE7B5D699FA367DB12A15419E9B7D2855BAD94CDDD6F69B4818233C000A5A607F8C439CE1A08230D03218FA900E3A7AA18E4EFA692D0B007E3020019DD03C569568BB6C1C28784525A96B00562BA6E216C001');
INSERT INTO "history" VALUES(2,40,40,2,1796195811405,X'28B52FFD602500C5040072891E1C6027541D18BA5920429F86D0B80981201CFBE6801DC92E4AA2A308ACCCCC494057021A369342001D5D7BF2D9307906AF1F86112CC9830EF37A5AE744B99EC8D24DD318741277469AAED0B361735189C7D1D8EB01252EECB51373AD7C228E1138E882BCBE50420B257655616C8091F6C4A0FBBD81BE3A5CD70A0A007A30A0009DCF3C569568BB6C1C28784525A16BB698100B000E');
INSERT INTO "history" VALUES(2,41,41,2,1796195812405,X'28B52FFD602D00E50400B2891F1D6047AB036021DB8EFAC97E10FDDD020882DB34E2C046841625D1510456CCCCC680AE0674560D85007ABE56D06B4B170D62170A58025D940BF37AB1CE9A745D076013088DC9C5BDF3A6E20A5D5BB6379589208DC53E940959EC65EA5A7A4DA07BCF1D02074DA037274C5AC2A4B306A1364015FB74CC7E6FD2D79C9BB5020A007E3020019DD03C569568BB6C1C28784525A16BA298100B000E');
INSERT INTO "history" VALUES(2,42,42,2,1796195813405,X'28B52FFD602300CD040062C91E1E6047AC036051EEFF81C7F4086213211084E368A6A46D442F4A4E51142801CCCC0A60383A9B6A5044E8E85A219F0D9167F0BAB030020579B0615E27D63953AEE7A134C334061BC49DB520AEE8D9B0B99844C368ECF5401215F6BA89B9563E0FB7081C74415E9F149DA468D822A90D50C41E1DDDEF177DF55CD70A0A007A30A0009DCF3C569570BB141C28784525A16BB698100B000E');
INSERT INTO "history" VALUES(2,1,22,42,1796109393405,X'018301000028B52FFD605503CD0B00C612381D6045EA5B6844EE5C4426FD97957D8B0A020D751A716D32A672088280062E0031002F00DE54AD3633B7A852BBB4A5FFC0770322CAF397B1BD5E1686C8E86EB5257393319919F29D60CC877CC7A96A97522AF1BBD10B53C402326C4AA9157606D1D171D6A0D5D87C72C11C8403219963488723D911B0E8D86516ED19ACC6E6D7DF49120C9B7FC2A83A05FA97360795E7CE790251D00B6D8970C7AA1C2A1E4A6ECF1768C12C61543E26E383DC5A794CC10F7A6BA95DEB300739C6706E83D6A083E98749A773D6A05D1A25414B5500F275EC67BF94272E5F37776E3E86B4FE9F1C3D203002223018D60E351CB437E304E530EE845A18744B98C1200B4BA158D0D9063133B43581798876130989266053C65087A6456185D2D3812568603C07A48D2B6182D0A1115B4A809114876723C4451DF5F4C7C57F9011F222C75C821BDF52A4315CD2796E994219180F53C09A3C3C6EB5780CF3812C178E7898E1F41A46AC7913AA404C8C7F540C0342350D3B19B4AC889F87E20428B52FFD00608400004001010102000404000200C133F6382D740000300101E90000030200403994600844000010010201004B80054C000018020201010028DD10CC000090F6F6010B0B00767600303000A2A200010100065403002240540000200101020301007B1C115001000101020203030404050506060707080809090A0A0B0B0C0C0D0D0E0E0F0F10101111121213131414151584000038010101000008040200F187F82BD7103C0000000100A3A1050454000008020200772257C10001FC0000705B2231225D0A5B223233343536300700D8140220078E8126400E1C4B5BE4F40000B86E756C6C0A310A320A330A340A350A360A5B372C5B5D5D010043536902A000000102030405060708090A0B0C0D0E0F1011121314A00000000103060A0F151C242D37424E5B69788899ABBE3400000001008B56403C000008000100984C2104020094022276616C75652031220A32333435363738393130313233343536373839220A2276616C75652032302212A810E8EB19D0EB106604E007A7F67AA862F56E197C00000005400029ADA12D85E7EE21C88B06010000');
INSERT INTO "history" VALUES(2,43,43,1,1796195814405,X'28B52FFD20A7050400B2481C1C70B56D03665D82DA0F49063B34A1FEFF2834FBE8C526F17D5E55CD134A297596C5616826D3E391B694A53DD6CFB5847B2587A7844A3D37C00C8235C7237C7EAD039A9B65254AEBE756B3639ED2F18D33085CB3630AAF1780443B1E44B90394BB6AA0430947A1B8271515CFA2E6C14C290400594563DDC5C55CDC0238');
CREATE TABLE history_since (
  project INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL
) STRICT;
INSERT INTO "history_since" VALUES(1,1796109373405);
INSERT INTO "history_since" VALUES(2,1796109373405);
CREATE TABLE identifier_value (
  project    INTEGER NOT NULL,
  identifier TEXT NOT NULL,
  value      TEXT NOT NULL,
  cuid       INTEGER NOT NULL,
  PRIMARY KEY (project, identifier, value)
) STRICT, WITHOUT ROWID;
INSERT INTO "identifier_value" VALUES(1,'phone','a',10000001);
INSERT INTO "identifier_value" VALUES(1,'phone','b',10000002);
INSERT INTO "identifier_value" VALUES(2,'phone','a',10000001);
INSERT INTO "identifier_value" VALUES(2,'jg_registration_id','1a0018970a',20000001);
CREATE TABLE import_job (
  project INTEGER NOT NULL,
  name    TEXT NOT NULL,
  state   TEXT NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE key_use (
  project INTEGER NOT NULL,
  name    TEXT NOT NULL,
  at      INTEGER NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE keyframe (
  project    INTEGER NOT NULL,
  number     INTEGER NOT NULL,
  cuid       INTEGER NOT NULL,
  version    INTEGER NOT NULL,
  at         INTEGER NOT NULL,
  attributes TEXT NOT NULL,
  PRIMARY KEY (project, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "keyframe" VALUES(2,33793,20000002,32,1796195804405,'{"user_number_overwrite":3.1}');
CREATE TABLE keyframe_bytes (
  project INTEGER PRIMARY KEY,
  bytes   INTEGER NOT NULL
) STRICT;
INSERT INTO "keyframe_bytes" VALUES(2,29);
CREATE TABLE last_write (
  project   INTEGER NOT NULL,
  attribute TEXT NOT NULL,
  at        INTEGER NOT NULL,
  PRIMARY KEY (project, attribute)
) STRICT, WITHOUT ROWID;
CREATE TABLE person (
  id       TEXT PRIMARY KEY,
  email    TEXT NOT NULL UNIQUE,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "person" VALUES('40f26b6c37f571b2','ann@example.com','{"email":"ann@example.com","created_at":1700000000010,"created_by":"cli:test","name":"Ann","password_hash":"$argon2id$v=19$m=19456,t=2,p=1$2gQNwRY5CXf/FKCSpYUcsw$J5+rdfbBfU7r9A+SKLuQ51wkuFNz9KTPRfnw1jtzSs0","admin":true}');
INSERT INTO "person" VALUES('eec4f3f75abcf3a6','bo@example.com','{"email":"bo@example.com","created_at":1700000000010,"created_by":"cli:test","name":"Bo","roles":{"2":"editor"}}');
CREATE TABLE project (
  number    INTEGER PRIMARY KEY AUTOINCREMENT,
  id        TEXT NOT NULL UNIQUE,
  version   INTEGER NOT NULL,
  next_cuid INTEGER NOT NULL,
  document  TEXT NOT NULL
) STRICT;
INSERT INTO "project" VALUES(1,'one',2,10000004,'{"name":"one","secret_salt":"NQzups5CvAU5yWDVf5mr/w==","secret_hash":"Z9j+0U6DI++oVEIGfitITLWTHBghriPVEAi8Lg71HOc=","timezone":"Asia/Shanghai","qps":100,"created_at":1700000000000,"attributes":[{"name":"user_number_overwrite","type":"NUMBER","rule":"overwrite"},{"name":"user_number_once","type":"NUMBER","rule":"once"},{"name":"user_number_accumulate","type":"NUMBER","rule":"accumulate"},{"name":"user_string_overwrite","type":"STRING","rule":"overwrite"},{"name":"user_string_once","type":"STRING","rule":"once"},{"name":"user_bool_overwrite","type":"BOOL","rule":"overwrite"},{"name":"user_bool_once","type":"BOOL","rule":"once"},{"name":"user_datetime_overwrite","type":"DATETIME","rule":"overwrite"},{"name":"user_datetime_once","type":"DATETIME","rule":"once"},{"name":"user_list_overwrite","type":"LIST","rule":"overwrite"},{"name":"user_list_once","type":"LIST","rule":"once"},{"name":"user_list_append","type":"LIST","rule":"append"}],"identifiers":[{"name":"phone"},{"name":"jg_registration_id","display_name":"极光设备唯一标识","unique":false},{"name":"jg_UnionID","display_name":"用户会员卡号"}]}');
INSERT INTO "project" VALUES(2,'two',5,20000003,'{"name":"two","secret_salt":"NQzups5CvAU5yWDVf5mr/w==","secret_hash":"Z9j+0U6DI++oVEIGfitITLWTHBghriPVEAi8Lg71HOc=","timezone":"Asia/Shanghai","qps":100,"created_at":1700000000000,"attributes":[{"name":"user_number_overwrite","type":"NUMBER","rule":"overwrite"},{"name":"user_number_once","type":"NUMBER","rule":"once"},{"name":"user_number_accumulate","type":"NUMBER","rule":"accumulate"},{"name":"user_string_overwrite","type":"STRING","rule":"overwrite"},{"name":"user_string_once","type":"STRING","rule":"once"},{"name":"user_bool_overwrite","type":"BOOL","rule":"overwrite"},{"name":"user_bool_once","type":"BOOL","rule":"once"},{"name":"user_datetime_overwrite","type":"DATETIME","rule":"overwrite"},{"name":"user_datetime_once","type":"DATETIME","rule":"once"},{"name":"user_list_overwrite","type":"LIST","rule":"overwrite"},{"name":"user_list_once","type":"LIST","rule":"once"},{"name":"user_list_append","type":"LIST","rule":"append"}],"identifiers":[{"name":"phone"},{"name":"jg_registration_id","display_name":"极光设备唯一标识","unique":false},{"name":"jg_UnionID","display_name":"用户会员卡号"}]}');
CREATE TABLE project_key (
  project  INTEGER NOT NULL,
  name     TEXT NOT NULL,
  document TEXT NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "project_key" VALUES(1,'default','{"scopes":["write","register","import","read","schema","erase","undo","webhooks","keys"],"created_at":1796078523325,"created_by":"cli:test","proofs":[{"hash":"Z9j+0U6DI++oVEIGfitITLWTHBghriPVEAi8Lg71HOc=","salt":"NQzups5CvAU5yWDVf5mr/w=="}]}');
INSERT INTO "project_key" VALUES(2,'billing','{"scopes":["write"],"created_at":1700000000010,"created_by":"cli:test","proofs":[{"hash":"+LFcHO+pKSZVz378YVfaz5Le/FbvWvU1CnPf0Cf2xMA=","salt":"NQzups5CvAU5yWDVf5mr/w=="}]}');
INSERT INTO "project_key" VALUES(2,'default','{"scopes":["write","register","import","read","schema","erase","undo","webhooks","keys"],"created_at":1796078523325,"created_by":"cli:test","proofs":[{"hash":"Z9j+0U6DI++oVEIGfitITLWTHBghriPVEAi8Lg71HOc=","salt":"NQzups5CvAU5yWDVf5mr/w=="}]}');
INSERT INTO "project_key" VALUES(2,'old','{"scopes":["read"],"created_at":1700000000010,"created_by":"cli:test","revoked_at":1700000000010,"revoked_by":"cli:test"}');
CREATE TABLE receipt (
  id          INTEGER PRIMARY KEY,
  project     INTEGER NOT NULL,
  key         TEXT NOT NULL,
  cuid        INTEGER NOT NULL,
  fingerprint BLOB NOT NULL,
  written     TEXT NOT NULL,
  personal    INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  UNIQUE (project, key)
) STRICT;
INSERT INTO "receipt" VALUES(1,1,'key a 1',10000001,X'','[2,{"user_string_overwrite":"applied","user_number_accumulate":"applied","user_list_append":"applied","user_bool_once":"applied","user_datetime_overwrite":"applied","user_number_overwrite":"applied"},null]',0,1700000000000);
INSERT INTO "receipt" VALUES(2,1,'key a 2',10000001,X'','[3,{"user_number_accumulate":"applied","user_list_append":"applied"},{"user_string_overwrite":"a","user_number_accumulate":3.5,"user_list_append":["x","y","z"],"user_bool_once":true,"user_datetime_overwrite":1709179200000,"user_number_overwrite":12345678901234567890.0123456789}]',1,1700000000010);
INSERT INTO "receipt" VALUES(3,2,'key 1',20000001,X'','[2,{"user_number_accumulate":"applied","user_list_append":"applied","user_string_overwrite":"applied"},null]',0,1796109374405);
INSERT INTO "receipt" VALUES(4,2,'key 3',20000001,X'','[4,{"user_number_accumulate":"applied","user_list_append":"applied","user_string_overwrite":"applied"},null]',0,1796109376405);
INSERT INTO "receipt" VALUES(5,2,'key 5',20000001,X'','[6,{"user_number_accumulate":"applied","user_list_append":"applied","user_string_overwrite":"applied"},null]',0,1796109378405);
INSERT INTO "receipt" VALUES(6,2,'key 7',20000001,X'','[8,{"user_number_accumulate":"applied","user_list_append":"applied","user_string_overwrite":"applied"},null]',0,1796109380405);
INSERT INTO "receipt" VALUES(7,2,'key 9',20000001,X'','[10,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796109382405);
INSERT INTO "receipt" VALUES(8,2,'key 11',20000001,X'','[12,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796109384405);
INSERT INTO "receipt" VALUES(9,2,'key 13',20000001,X'','[14,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796109386405);
INSERT INTO "receipt" VALUES(10,2,'key 15',20000001,X'','[16,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796109388405);
INSERT INTO "receipt" VALUES(11,2,'key 17',20000001,X'','[18,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796109390405);
INSERT INTO "receipt" VALUES(12,2,'key 19',20000001,X'','[20,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796109392405);
INSERT INTO "receipt" VALUES(13,2,'key 21',20000001,X'','[22,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796195794405);
INSERT INTO "receipt" VALUES(14,2,'key 23',20000001,X'','[24,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796195796405);
INSERT INTO "receipt" VALUES(15,2,'key 25',20000001,X'','[26,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796195798405);
INSERT INTO "receipt" VALUES(16,2,'key 27',20000001,X'','[28,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796195800405);
INSERT INTO "receipt" VALUES(17,2,'key 29',20000001,X'','[30,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796195802405);
INSERT INTO "receipt" VALUES(18,2,'key 31',20000001,X'','[32,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796195804405);
INSERT INTO "receipt" VALUES(19,2,'key 33',20000001,X'','[34,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796195806405);
INSERT INTO "receipt" VALUES(20,2,'key 35',20000001,X'','[36,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796195808405);
INSERT INTO "receipt" VALUES(21,2,'key 37',20000001,X'','[38,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796195810405);
INSERT INTO "receipt" VALUES(22,2,'key 39',20000001,X'','[40,{"user_number_accumulate":"applied","user_list_append":"unchanged","user_string_overwrite":"applied"},null]',0,1796195812405);
CREATE TABLE reported (
  project   INTEGER NOT NULL,
  attribute TEXT NOT NULL,
  PRIMARY KEY (project, attribute)
) STRICT, WITHOUT ROWID;
INSERT INTO "reported" VALUES(1,'user_bool_once');
INSERT INTO "reported" VALUES(1,'user_datetime_overwrite');
INSERT INTO "reported" VALUES(1,'user_list_append');
INSERT INTO "reported" VALUES(1,'user_number_accumulate');
INSERT INTO "reported" VALUES(1,'user_number_overwrite');
INSERT INTO "reported" VALUES(1,'user_string_once');
INSERT INTO "reported" VALUES(1,'user_string_overwrite');
INSERT INTO "reported" VALUES(2,'user_list_append');
INSERT INTO "reported" VALUES(2,'user_number_accumulate');
INSERT INTO "reported" VALUES(2,'user_number_overwrite');
INSERT INTO "reported" VALUES(2,'user_string_overwrite');
CREATE TABLE user_1 (
  cuid INTEGER PRIMARY KEY, version INTEGER NOT NULL, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, attributes TEXT NOT NULL, changed_at TEXT NOT NULL, head INTEGER NOT NULL DEFAULT 0, sole_actor TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "user_1" VALUES(10000001,3,1700000000000,1700000000010,'{"user_string_overwrite":"a","user_number_accumulate":3.5,"user_list_append":["x","y","z"],"user_bool_once":true,"user_datetime_overwrite":1709179200000,"user_number_overwrite":12345678901234567890.0123456789}','{"":1700000000000,"user_number_accumulate":1700000000010,"user_list_append":1700000000010}',0,'');
INSERT INTO "user_1" VALUES(10000002,2,1700000000000,1700000000000,'{"user_string_once":"b"}','{"":1700000000000}',0,'');
CREATE TABLE user_2 (
  cuid INTEGER PRIMARY KEY, version INTEGER NOT NULL, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, attributes TEXT NOT NULL, changed_at TEXT NOT NULL, head INTEGER NOT NULL DEFAULT 0, sole_actor TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "user_2" VALUES(10000001,2,1700000000000,1700000000000,'{"user_string_overwrite":"a","user_number_accumulate":1}','{"":1700000000000}',0,'');
INSERT INTO "user_2" VALUES(20000001,42,1796109373405,1796195814405,'{"user_number_accumulate":820,"user_list_append":["1","2","3","4","5","6","0"],"user_string_overwrite":"imported"}','{"":1796109374405,"user_number_accumulate":1796195813405,"user_list_append":1796109380405,"user_string_overwrite":1796195814405}',44032,'');
INSERT INTO "user_2" VALUES(20000002,41,1796109373405,1796195813405,'{"user_number_overwrite":4}','{"":1796109374405,"user_number_overwrite":1796195813405}',43009,'');
CREATE INDEX identifier_value_by_user ON identifier_value (project, cuid);
CREATE INDEX receipt_personal ON receipt (project, cuid) WHERE personal;
CREATE INDEX arrival_by_project ON arrival (project, refused, id);
CREATE INDEX arrival_by_user ON arrival (project, cuid) WHERE cuid IS NOT NULL;
CREATE INDEX receipt_at ON receipt (at);
CREATE INDEX audit_by_actor ON audit (project, actor, number);
CREATE INDEX audit_by_kind ON audit (project, kind, number);
CREATE INDEX audit_by_subject ON audit (project, subject, number);
CREATE INDEX audit_by_time ON audit (project, at);
CREATE INDEX console_session_by_person ON console_session (person);
CREATE INDEX keyframe_of_user ON keyframe (project, cuid, at);
CREATE TRIGGER keyframe_added AFTER INSERT ON keyframe BEGIN
  INSERT INTO keyframe_bytes VALUES (new.project, octet_length(new.attributes))
  ON CONFLICT (project) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER keyframe_removed AFTER DELETE ON keyframe BEGIN
  UPDATE keyframe_bytes SET bytes = bytes - octet_length(old.attributes) WHERE project = old.project;
END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('project',2);
COMMIT;
