//! Tables of calls and their hand-computed results, from Flink's documentation.
//!
//! Arguments are coerced as the planner would, then the call is evaluated over literals and over columns.

use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, Volatility};

use super::*;

/// Calls a function over literals, or over columns of three equal rows: both must agree.
fn call(name: &str, args: &[ScalarValue]) -> String {
    let function = registry().scalar(name).unwrap_or_else(|| panic!("no function {name}"));
    match (evaluate(&function, args, false), evaluate(&function, args, true)) {
        (Ok(literal), Ok(columns)) => {
            assert_eq!(literal, columns, "{name}: literals and columns differ");
            literal
        }
        (Err(literal), Err(_)) => format!("error: {literal}"),
        (literal, columns) => panic!("{name}: {literal:?} for literals, {columns:?} for columns"),
    }
}

fn evaluate(function: &Arc<ScalarUDF>, args: &[ScalarValue], columns: bool) -> std::result::Result<String, String> {
    let text = |error: datafusion_common::DataFusionError| error.strip_backtrace();
    let types: Vec<_> = args.iter().map(ScalarValue::data_type).collect();
    let fields: Vec<_> = types.iter().map(|t| Arc::new(arrow::datatypes::Field::new("a", t.clone(), true))).collect();
    let coerced =
        datafusion_expr::type_coercion::functions::fields_with_udf(&fields, function.as_ref()).map_err(text)?;
    let rows = if columns { 3 } else { 1 };
    let values = args.iter().zip(&coerced).map(|(arg, field)| {
        let value = arg.cast_to(field.data_type())?;
        if columns { value.to_array_of_size(rows).map(ColumnarValue::Array) } else { Ok(ColumnarValue::Scalar(value)) }
    });
    let values = values.collect::<datafusion_common::Result<Vec<_>>>().map_err(text)?;
    let literals: Vec<Option<ScalarValue>> = args.iter().cloned().map(Some).collect();
    let literals: Vec<Option<&ScalarValue>> = literals.iter().map(Option::as_ref).collect();
    let return_field = function
        .return_field_from_args(datafusion_expr::ReturnFieldArgs { arg_fields: &coerced, scalar_arguments: &literals })
        .map_err(text)?;
    let promised = return_field.data_type().clone();
    let result = function
        .invoke_with_args(ScalarFunctionArgs {
            args: values,
            arg_fields: coerced,
            number_rows: rows,
            return_field,
            config_options: Arc::default(),
        })
        .map_err(text)?;
    let array = result.to_array(rows).map_err(text)?;
    assert_eq!(array.data_type(), &promised, "{} promises another type", function.name());
    assert_eq!(array.len(), rows, "{} gives another number of rows", function.name());
    let last = ScalarValue::try_from_array(&array, rows - 1).map_err(text)?;
    Ok(if last.is_null() {
        "NULL".to_owned()
    } else {
        arrow::util::display::array_value_to_string(&array, 0).map_err(|e| e.to_string())?
    })
}

trait Value {
    fn value(self) -> ScalarValue;
}
impl Value for &str {
    fn value(self) -> ScalarValue {
        ScalarValue::Utf8(Some(self.to_owned()))
    }
}
impl Value for i32 {
    fn value(self) -> ScalarValue {
        ScalarValue::Int32(Some(self))
    }
}
impl Value for i64 {
    fn value(self) -> ScalarValue {
        ScalarValue::Int64(Some(self))
    }
}
impl Value for f64 {
    fn value(self) -> ScalarValue {
        ScalarValue::Float64(Some(self))
    }
}
impl Value for bool {
    fn value(self) -> ScalarValue {
        ScalarValue::Boolean(Some(self))
    }
}
impl Value for () {
    fn value(self) -> ScalarValue {
        ScalarValue::Null
    }
}
/// A timestamp of milliseconds.
struct Ts(&'static str);
impl Value for Ts {
    fn value(self) -> ScalarValue {
        let time = super::time::parse_timestamp(self.0).unwrap_or_else(|| panic!("{}", self.0));
        ScalarValue::TimestampMillisecond(Some(time.and_utc().timestamp_millis()), None)
    }
}

macro_rules! table {
    ($($name:ident($($arg:expr),*) => $expected:expr;)*) => {
        $(
            let args: Vec<ScalarValue> = vec![$(Value::value($arg)),*];
            assert_eq!(call(stringify!($name), &args), $expected, "{}({:?})", stringify!($name), args);
        )*
    };
}

#[test]
fn times() {
    table! {
        date_format(Ts("2013-01-05 14:07:09.123"), "yyyy-MM-dd HH:mm:ss.SSS") => "2013-01-05 14:07:09.123";
        date_format(Ts("2013-01-05 14:07:09"), "yy/M/d h a 'o''clock' EEE MMMM D") => "13/1/5 2 PM o'clock Sat January 5";
        date_format(Ts("2013-01-05 00:07:09"), "HH:mm") => "00:07";
        date_format(Ts("2013-01-05 00:07:09"), ()) => "NULL";
        to_timestamp("2013-01-05 14:07:09") => "2013-01-05T14:07:09";
        to_timestamp("2013-01-05") => "2013-01-05T00:00:00";
        to_timestamp("2013-01-05T14:07:09.5") => "2013-01-05T14:07:09.500";
        to_timestamp("2013-13-05 14:07:09") => "NULL";
        to_timestamp("05.01.2013 02 PM", "dd.MM.yyyy hh a") => "2013-01-05T14:00:00";
        to_timestamp("20130105140709", "yyyyMMddHHmmss") => "2013-01-05T14:07:09";
        to_timestamp("x", "yyyy") => "NULL";
        to_timestamp_ltz(1_000_i64, 3) => "1970-01-01T00:00:01Z";
        to_timestamp_ltz(1_000_i64, 0) => "1970-01-01T00:16:40Z";
        to_timestamp_ltz("1970-01-02 00:00:00") => "1970-01-02T00:00:00Z";
        to_date("2013-01-05") => "2013-01-05";
        to_date("05/01/2013", "dd/MM/yyyy") => "2013-01-05";
        from_unixtime(44_i64) => "1970-01-01 00:00:44";
        from_unixtime(44_i64, "HH:mm:ss") => "00:00:44";
        unix_timestamp("1970-01-01 00:00:44") => "44";
        unix_timestamp("1970/01/02", "yyyy/MM/dd") => "86400";
        timestampdiff("DAY", Ts("2003-01-02 10:00:00"), Ts("2003-01-03 10:00:00")) => "1";
        timestampdiff("SECOND", Ts("2003-01-02 10:00:01"), Ts("2003-01-02 10:00:00")) => "-1";
        timestampdiff("MONTH", Ts("2013-01-31 00:00:00"), Ts("2013-02-28 00:00:00")) => "0";
        timestampdiff("YEAR", Ts("2011-01-05 00:00:00"), Ts("2013-01-05 00:00:00")) => "2";
        timestampadd("WEEK", 1, Ts("2003-01-02 00:00:00")) => "2003-01-09T00:00:00";
        timestampadd("MONTH", 1, Ts("2013-01-31 12:00:00")) => "2013-02-28T12:00:00";
        convert_tz("1970-01-01 00:00:00", "UTC", "+08:00") => "1970-01-01 08:00:00";
        year(Ts("1994-09-27 13:14:15")) => "1994";
        quarter(Ts("1994-09-27 13:14:15")) => "3";
        week(Ts("1994-09-27 13:14:15")) => "39";
        dayofyear(Ts("1994-09-27 13:14:15")) => "270";
        dayofmonth(Ts("1994-09-27 13:14:15")) => "27";
        dayofweek(Ts("1994-09-27 13:14:15")) => "3";
        hour(Ts("1994-09-27 13:14:15")) => "13";
        minute(Ts("1994-09-27 13:14:15")) => "14";
        second(Ts("1994-09-27 13:14:15")) => "15";
        extract_unit("DAY", Ts("2006-06-05 00:00:00")) => "5";
        extract_unit("EPOCH", Ts("1970-01-02 00:00:00")) => "86400";
        floor_to("HOUR", Ts("2013-01-05 14:07:09")) => "2013-01-05T14:00:00";
        ceil_to("HOUR", Ts("2013-01-05 14:07:09")) => "2013-01-05T15:00:00";
        ceil_to("HOUR", Ts("2013-01-05 14:00:00")) => "2013-01-05T14:00:00";
        floor_to("MONTH", Ts("2013-01-05 14:07:09")) => "2013-01-01T00:00:00";
        ceil_to("YEAR", Ts("2013-01-05 14:07:09")) => "2014-01-01T00:00:00";
        floor_to("WEEK", Ts("2013-01-05 14:07:09")) => "2012-12-30T00:00:00";
    }
}

#[test]
fn texts() {
    table! {
        split_index("http://a/b/c", "/", 3) => "b";
        split_index("a,b", ",", 2) => "NULL";
        split_index("a,b", 44, 1) => "b";
        split_index((), ",", 0) => "NULL";
        substring("hello", 2) => "ello";
        substring("hello", 2, 3) => "ell";
        substring("hello", -3) => "llo";
        substring("hello", 0, 2) => "he";
        substring("h\u{e4}llo", 2, 1) => "\u{e4}";
        substring("hello", 1, -1) => "NULL";
        char_length("h\u{e4}llo") => "5";
        locate("l", "hello") => "3";
        locate("l", "hello", 4) => "4";
        locate("x", "hello") => "0";
        instr("hello", "lo") => "4";
        left("hello", 2) => "he";
        left("hello", -1) => "";
        right("hello", 2) => "lo";
        lpad("hi", 4, "??") => "??hi";
        lpad("hi", 1, "??") => "h";
        rpad("hi", 4, "??") => "hi??";
        rpad("hi", -1, "?") => "NULL";
        overlay("This is an old string", " new", 10, 5) => "This is a new string";
        overlay("xxxxxtest", "xxxx", 6) => "xxxxxxxxx";
        concat("AA", "BB", "CC") => "AABBCC";
        concat("AA", (), "CC") => "NULL";
        concat_ws("~", "AA", "BB", (), "CC") => "AA~BB~CC";
        elt(2, "a", "b") => "b";
        elt(3, "a", "b") => "NULL";
        str_to_map("k1=v1,k2") => "{k1: v1, k2: }";
        is_alpha("abc") => "true";
        is_alpha("a1") => "false";
        is_alpha(()) => "false";
        is_digit("12") => "true";
        is_decimal("-1.5") => "true";
        is_decimal("1x") => "false";
        ascii("abc") => "97";
        ascii("") => "0";
        chr(97) => "a";
        chr(353) => "a";
        to_base64("hello world") => "aGVsbG8gd29ybGQ=";
        from_base64("aGVsbG8gd29ybGQ=") => "hello world";
        from_base64("a!") => "NULL";
        initcap("hello world") => "Hello World";
        reverse("abc") => "cba";
        repeat("ab", 2) => "abab";
        count_char("banana", "a") => "3";
        regexp_extract("foothebar", "foo(.*?)(bar)", 2) => "bar";
        regexp_extract("foothebar", "foo(.*?)(bar)") => "foothebar";
        regexp_extract("x", "(y)", 1) => "NULL";
        regexp_extract("a&channel_id=7&b", "(&|^)channel_id=([^&]*)", 2) => "7";
        regexp_replace("foobar", "oo|ar", "") => "fb";
        regexp_extract_all("a1b22", "([a-z])([0-9]+)") => "[a, b]";
        regexp_extract_all("a1b22", "([a-z])([0-9]+)", 2) => "[1, 22]";
        regexp_extract_all("a1b22", "([a-z])([0-9]+)", 3) => "NULL";
        regexp_extract_all("x", "([0-9])", 1) => "[]";
        unhex("4869") => "4869";
        unhex("4G") => "NULL";
        unhex("+1") => "NULL";
        encode("é", "UTF-16") => "feff00e9";
        encode("hé", "US-ASCII") => "683f";
        decode("6869", "hex") => "6869";
        typeof(1) => "INT";
        regexp_replace("ab cd", "(\\w)(\\w)", "$2\\") => "$2\\ $2\\";
        regexp("hello", "l+") => "true";
        parse_url("http://u@h.org:80/p/a?k=v&x=y#r", "HOST") => "h.org";
        parse_url("http://u@h.org:80/p/a?k=v&x=y#r", "QUERY", "x") => "y";
        parse_url("http://u@h.org:80/p/a?k=v&x=y#r", "FILE") => "/p/a?k=v&x=y";
        parse_url("nonsense", "HOST") => "NULL";
        url_encode("a b&c") => "a+b%26c";
        url_decode("a+b%26c") => "a b&c";
        upper("abc") => "ABC";
    }
}

#[test]
fn numbers_hashes_and_conditions() {
    table! {
        mod(7_i64, 3) => "1";
        mod(-7, 3) => "-1";
        mod((), 3) => "NULL";
        log(std::f64::consts::E) => "1.0";
        log(2.0, 8.0) => "3.0";
        power(2, 3) => "8.0";
        ceil(1.2) => "2.0";
        floor(-1.2) => "-2.0";
        ceil(5) => "5";
        round(2.5) => "3.0";
        bin(4) => "100";
        hex(20) => "14";
        hex("hello,world") => "68656C6C6F2C776F726C64";
        md5("abc") => "900150983cd24fb0d6963f7d28e17f72";
        sha1("abc") => "a9993e364706816aba3e25717850c26c9cd0d89d";
        sha256("abc") => "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        sha2("abc", 224) => "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7";
        if(true, 1, 2) => "1";
        if((), 1, 2) => "2";
        ifnull((), 5) => "5";
        ifnull(4, 5) => "4";
        greatest(1, 3, 2) => "3";
        greatest(1, (), 2) => "NULL";
        least("b", "a") => "a";
        coalesce((), 7) => "7";
    }
    assert!(call("mod", &[1.value(), 0.value()]).starts_with("error: "), "an integer divided by zero fails");
}

#[test]
fn json() {
    table! {
        is_json("{\"a\": 1}") => "true";
        is_json("{a") => "false";
        is_json("1", "OBJECT") => "false";
        json_value("{\"a\": {\"b\": [10, 20]}}", "$.a.b[1]") => "20";
        json_get("{\"b\": 1.50, \"a\": {\"z\": 1, \"y\": [ ]}}", "a") => "{\"z\": 1, \"y\": [ ]}";
        json_get("{\"b\": 1.50, \"a\": 2}", "b") => "1.50";
        json_get("{\"a\": 1, \"a\": 2}", "a") => "2";
        json_get("{\"a\": null}", "a") => "null";
        json_get("{\"a\": 1}", "b") => "NULL";
        json_get("{a: 1}", "a") => "NULL";
        json_get("[10, [\"]\", 3], \"x\"]", 1_i64) => "[\"]\", 3]";
        json_get("[10, 20]", -1_i64) => "20";
        json_get("[10, 20]", 2_i64) => "NULL";
        json_get("[10, 20]", -3_i64) => "NULL";
        json_get_text("{\"a\": \"x\\\"\\u00e9\"}", "a") => "x\"é";
        json_get_text("{\"\\u0061\": true}", "a") => "true";
        json_get_text("{\"a\": null}", "a") => "NULL";
        json_get_text(" [1 , \"b\" ] ", 1_i64) => "b";
        json_unquote("\"a\\n\"") => "a\n";
        json_unquote("a") => "a";
        json_value("{\"a\": \"x\"}", "lax $.a") => "x";
        json_value("{\"a\": {}}", "$.a") => "NULL";
        json_value("{\"a\": null}", "$.a") => "NULL";
        json_value("{}", "$.a", "DEFAULT", "none", "NULL", ()) => "none";
        json_query("{\"a\": [1, 2]}", "$.a") => "[1,2]";
        json_query("{\"a\": 1}", "$.a", "UNCONDITIONAL") => "[1]";
        json_exists("{\"a\": true}", "$.a") => "true";
        json_exists("{\"a\": true}", "$.b") => "false";
        json_string("a\"b") => "\"a\\\"b\"";
        json_string(1) => "1";
        json_object("NULL", "a", 1, "b", ()) => "{\"a\":1,\"b\":null}";
        json_array("ABSENT", 1, (), "x") => "[1,\"x\"]";
    }
    assert!(call("json_value", &["{}".value(), "a".value()]).contains("is no JSON path"));
}

#[test]
fn collections() {
    let list = |values: &[ScalarValue]| ScalarValue::List(ScalarValue::new_list_nullable(values, &DataType::Int32));
    assert_eq!(call("cardinality", &[list(&[1.value(), 2.value()])]), "2");
    assert_eq!(call("cardinality", &[list(&[])]), "0");
    assert_eq!(call("element", &[list(&[7.value()])]), "7");
    assert!(call("element", &[list(&[7.value(), 8.value()])]).contains("one element"));
    assert_eq!(call("array_contains", &[list(&[7.value(), 8.value()]), 8.value()]), "true");
}

/// One row must not take all memory: what it makes of a number has a limit.
#[test]
fn generators_have_a_limit() {
    let huge = || ScalarValue::Int64(Some(i64::MAX));
    let one = || ScalarValue::Int64(Some(1));
    for (name, args) in [
        ("repeat", vec![ScalarValue::from("x"), huge()]),
        ("lpad", vec![ScalarValue::from("x"), huge()]),
        ("range", vec![huge()]),
        ("generate_series", vec![one(), huge()]),
        ("generate_series", vec![ScalarValue::Int64(Some(i64::MIN)), huge()]),
        ("array_repeat", vec![one(), huge()]),
    ] {
        let answer = call(name, &args);
        assert!(answer.contains(" at most "), "{name}: {answer}");
    }
    assert_eq!(call("repeat", &[ScalarValue::from("ab"), ScalarValue::Int64(Some(3))]), "ababab");
    assert_eq!(call("repeat", &[ScalarValue::from("ab"), ScalarValue::Int64(Some(-1))]), "");
}

#[test]
fn wrong_arguments_are_explained() {
    let error = call("split_index", &["a".value()]);
    assert!(error.ends_with("SPLIT_INDEX does not take 1 arguments: SPLIT_INDEX(text, any, integer)"), "{error}");
    assert!(call("left", &["a".value(), "b".value()]).contains("argument 2 of LEFT is STRING, not integer"));
    assert!(call("date_format", &[Ts("2013-01-05").value(), "b".value()]).contains("which is not supported"));
    assert_eq!(call("regexp", &["a".value(), "(".value()]), "false");
}

#[test]
fn the_clock_is_given_and_never_read() {
    clock::set_now(1_357_344_000_123, 7);
    assert_eq!(call("localtimestamp", &[]), "2013-01-05T00:00:00.123");
    assert_eq!(call("current_timestamp", &[]), "2013-01-05T00:00:00.123Z");
    assert_eq!(call("current_date", &[]), "2013-01-05");
    assert_eq!(call("unix_timestamp", &[]), "1357344000");
    for name in ["proctime", "now", "rand", "uuid", "unix_timestamp", "current_row_timestamp"] {
        let function = registry().scalar(name).expect(name);
        assert_eq!(function.signature().volatility, Volatility::Volatile, "{name}");
        assert!(!registry().is_deterministic(name), "{name}");
    }
    assert!(registry().is_deterministic("upper"));
}

#[test]
fn names_are_found_or_explained() {
    assert!(registry().scalar("Char_Length").is_some());
    assert!(registry().aggregate("LISTAGG").is_some());
    assert!(registry().window("row_number").is_some());
    assert_eq!(registry().unknown("splitindex").hint_text(), Some("did you mean `SPLIT_INDEX`?"));
    assert_eq!(registry().unknown("TUMBLE_START").code(), Code::SqlUnsupported);
}

#[test]
fn empty_batches_pass() {
    let function = registry().scalar("split_index").expect("there");
    let empty = |scalar: ScalarValue| ColumnarValue::Array(scalar.to_array_of_size(0).expect("empty"));
    let fields = ["a", "b", "c"].map(|name| Arc::new(arrow::datatypes::Field::new(name, DataType::Utf8, true)));
    let result = function.invoke_with_args(ScalarFunctionArgs {
        args: vec![empty("a".value()), ColumnarValue::Scalar(",".value()), ColumnarValue::Scalar(1_i64.value())],
        arg_fields: fields.into(),
        number_rows: 0,
        return_field: Arc::new(arrow::datatypes::Field::new("r", DataType::Utf8, true)),
        config_options: Arc::default(),
    });
    assert_eq!(result.expect("runs").to_array(0).expect("an array").len(), 0);
}
