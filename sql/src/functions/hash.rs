//! Digests, as lower-case hexadecimal text.

use std::fmt::Write;

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::define::{Args, Function, Kind, build_text, failed, text_type};

pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Bytes, Integer};
    vec![
        Function::new("md5", &[Bytes], text_type, digest::<Md5>).build(),
        Function::new("sha1", &[Bytes], text_type, digest::<Sha1>).build(),
        Function::new("sha224", &[Bytes], text_type, digest::<Sha224>).build(),
        Function::new("sha256", &[Bytes], text_type, digest::<Sha256>).build(),
        Function::new("sha384", &[Bytes], text_type, digest::<Sha384>).build(),
        Function::new("sha512", &[Bytes], text_type, digest::<Sha512>).build(),
        Function::new("sha2", &[Bytes, Integer], text_type, sha2).build(),
    ]
}

fn digest<D: Digest>(args: &Args) -> Result<ArrayRef> {
    let values = args.bytes(0)?;
    build_text(args.rows, |row, out| Ok(values.get(row).and_then(|bytes| write_hex(&D::digest(bytes), out))))
}

fn sha2(args: &Args) -> Result<ArrayRef> {
    let (values, lengths) = (args.bytes(0)?, args.integer(1)?);
    build_text(args.rows, |row, out| {
        let (Some(bytes), Some(length)) = (values.get(row), lengths.get(row)) else { return Ok(None) };
        Ok(match length {
            224 => write_hex(&Sha224::digest(bytes), out),
            256 => write_hex(&Sha256::digest(bytes), out),
            384 => write_hex(&Sha384::digest(bytes), out),
            512 => write_hex(&Sha512::digest(bytes), out),
            other => return failed(format!("SHA2 makes 224, 256, 384 or 512 bits, not {other}")),
        })
    })
}

fn write_hex(bytes: &[u8], out: &mut String) -> Option<()> {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}").ok())
}
