//! `cargo xtask wire`: Rust messages from `spec/*.proto`.
//!
//! Reads the part of proto3 that our contracts use and writes `crates/wire/src/gen/<name>.rs`: structs with prost's attributes for
//! the binary form and serde's for the JSON form. A generator of our own, because prost's leaves JSON out, every generator that
//! has it brings more crates than the workspace has, and our contracts need one page of proto3. The output is committed, so a
//! build needs neither this nor `protoc`; `--check` fails when the two differ.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

const CONTRACTS: [&str; 3] = ["process", "filesystem", "node"];

/// Writes the generated files, or with `check` fails if they are not what would be written.
pub fn run(root: &Path, check: bool) -> Result<()> {
    for name in CONTRACTS {
        let source = root.join(format!("spec/{name}.proto"));
        let text = fs::read_to_string(&source).with_context(|| format!("reading {}", source.display()))?;
        let file = Parser::new(&text).file().with_context(|| format!("in {}", source.display()))?;
        let rust = format(&generate(name, &file)?)?;
        let target = root.join(format!("crates/wire/src/gen/{name}.rs"));
        if check {
            let committed = fs::read_to_string(&target).unwrap_or_default();
            ensure!(committed == rust, "{} is out of date: run `cargo xtask wire`", target.display());
        } else {
            fs::write(&target, rust).with_context(|| format!("writing {}", target.display()))?;
        }
    }
    Ok(())
}

fn format(rust: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config", "max_width=140,use_small_heuristics=Max"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting rustfmt")?;
    child.stdin.take().expect("stdin is piped").write_all(rust.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "rustfmt refused the generated code");
    Ok(String::from_utf8(output.stdout)?)
}

#[derive(Default)]
struct File {
    package: String,
    services: Vec<Service>,
    items: Vec<Item>,
}

struct Service {
    name: String,
    methods: Vec<(String, String)>,
}

enum Item {
    Message(Message),
    Enum(Enum),
}

struct Message {
    doc: String,
    name: String,
    fields: Vec<Field>,
    oneofs: Vec<(String, Vec<Field>)>,
    items: Vec<Item>,
}

struct Enum {
    doc: String,
    name: String,
    values: Vec<(String, i32)>,
}

struct Field {
    doc: String,
    name: String,
    ty: String,
    label: Label,
    tag: u32,
}

#[derive(PartialEq, Clone, Copy)]
enum Label {
    Plain,
    Optional,
    Repeated,
    Map,
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
    doc: String,
}

impl Parser {
    /// Comment lines become tokens that start with `//`; everything else splits at white space and punctuation.
    fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        for line in text.lines() {
            let (code, comment) = line.split_once("//").map_or((line, None), |(code, comment)| (code, Some(comment)));
            let mut word = String::new();
            for c in code.chars() {
                if c.is_whitespace() || "{}();=<>,".contains(c) {
                    if !word.is_empty() {
                        tokens.push(std::mem::take(&mut word));
                    }
                    if !c.is_whitespace() {
                        tokens.push(c.to_string());
                    }
                } else {
                    word.push(c);
                }
            }
            if !word.is_empty() {
                tokens.push(word);
            }
            if let Some(comment) = comment {
                tokens.push(format!("//{comment}"));
            }
        }
        Self { tokens, at: 0, doc: String::new() }
    }

    fn next(&mut self) -> Result<String> {
        self.doc.clear();
        loop {
            let token = self.tokens.get(self.at).cloned().ok_or_else(|| anyhow!("the file ends too early"))?;
            self.at += 1;
            match token.strip_prefix("//") {
                Some(comment) => writeln!(self.doc, "///{comment}")?,
                None => return Ok(token),
            }
        }
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        let token = self.next()?;
        ensure!(token == wanted, "expected `{wanted}`, found `{token}`");
        Ok(())
    }

    fn until(&mut self, end: &str) -> Result<Vec<String>> {
        let mut words = Vec::new();
        loop {
            match self.next()? {
                token if token == end => return Ok(words),
                token => words.push(token),
            }
        }
    }

    fn file(mut self) -> Result<File> {
        let mut file = File::default();
        while self.tokens[self.at..].iter().any(|t| !t.starts_with("//")) {
            match self.next()?.as_str() {
                "syntax" | "import" => drop(self.until(";")?),
                "package" => file.package = self.until(";")?.concat(),
                "service" => {
                    let name = self.next()?;
                    file.services.push(self.service(name)?);
                }
                "message" => file.items.push(Item::Message(self.message()?)),
                "enum" => file.items.push(Item::Enum(self.enumeration()?)),
                other => bail!("`{other}` is not part of the proto3 this generator reads"),
            }
        }
        Ok(file)
    }

    fn service(&mut self, name: String) -> Result<Service> {
        self.expect("{")?;
        let mut methods = Vec::new();
        loop {
            match self.next()?.as_str() {
                "}" => return Ok(Service { name, methods }),
                "rpc" => {
                    let doc = self.doc.clone();
                    methods.push((self.next()?, doc));
                    self.until(";")?;
                }
                other => bail!("`{other}` in service {name}"),
            }
        }
    }

    fn message(&mut self) -> Result<Message> {
        let doc = self.doc.clone();
        let mut message = Message { doc, name: self.next()?, fields: vec![], oneofs: vec![], items: vec![] };
        self.expect("{")?;
        loop {
            let token = self.next()?;
            match token.as_str() {
                "}" => return Ok(message),
                "message" => message.items.push(Item::Message(self.message()?)),
                "enum" => message.items.push(Item::Enum(self.enumeration()?)),
                "oneof" => {
                    let name = self.next()?;
                    self.expect("{")?;
                    let mut members = Vec::new();
                    loop {
                        match self.next()? {
                            end if end == "}" => break,
                            ty => members.push(self.field(ty, Label::Plain)?),
                        }
                    }
                    message.oneofs.push((name, members));
                }
                "optional" | "repeated" => {
                    let doc = self.doc.clone();
                    let label = if token == "optional" { Label::Optional } else { Label::Repeated };
                    let ty = self.next()?;
                    let mut field = self.field(ty, label)?;
                    field.doc = doc;
                    message.fields.push(field);
                }
                "map" => {
                    let doc = self.doc.clone();
                    self.expect("<")?;
                    let inner = self.until(">")?.concat();
                    ensure!(inner == "string,string", "only map<string, string> is supported, not map<{inner}>");
                    let mut field = self.field(inner, Label::Map)?;
                    field.doc = doc;
                    message.fields.push(field);
                }
                _ => {
                    let field = self.field(token, Label::Plain)?;
                    message.fields.push(field);
                }
            }
        }
    }

    fn field(&mut self, ty: String, label: Label) -> Result<Field> {
        let doc = self.doc.clone();
        let name = self.next()?;
        self.expect("=")?;
        let tag = self.next()?.parse().with_context(|| format!("the tag of {name}"))?;
        self.expect(";")?;
        Ok(Field { doc, name, ty, label, tag })
    }

    fn enumeration(&mut self) -> Result<Enum> {
        let doc = self.doc.clone();
        let name = self.next()?;
        self.expect("{")?;
        let mut values = Vec::new();
        loop {
            match self.next()? {
                end if end == "}" => return Ok(Enum { doc, name, values }),
                value => {
                    self.expect("=")?;
                    let number = self.next()?.parse().with_context(|| format!("the number of {value}"))?;
                    self.expect(";")?;
                    values.push((value, number));
                }
            }
        }
    }
}

/// What a type name stands for: the Rust path, and whether it is an enum.
type Names = BTreeMap<String, (String, bool)>;

fn generate(name: &str, file: &File) -> Result<String> {
    let mut names = Names::new();
    collect(&file.items, "", &format!("crate::{name}"), &mut names);
    let mut out = format!("//! Generated from `spec/{name}.proto` by `cargo xtask wire`. Edit that file instead.\n\n");
    for service in &file.services {
        writeln!(out, "/// Paths of the methods of `{}.{}`.\npub mod rpc {{", file.package, service.name)?;
        for (method, doc) in &service.methods {
            let doc = if doc.is_empty() { format!("/// `{method}`.\n") } else { doc.clone() };
            writeln!(out, "{doc}pub const {}: &str = \"/{}.{}/{method}\";", snake(method).to_uppercase(), file.package, service.name)?;
        }
        out.push_str("}\n\n");
    }
    items(&file.items, "", &names, &mut out)?;
    Ok(out)
}

fn collect(items: &[Item], scope: &str, path: &str, names: &mut Names) {
    for item in items {
        match item {
            Item::Enum(e) => drop(names.insert(format!("{scope}{}", e.name), (format!("{path}::{}", rust_name(&e.name)), true))),
            Item::Message(m) => {
                names.insert(format!("{scope}{}", m.name), (format!("{path}::{}", rust_name(&m.name)), false));
                collect(&m.items, &format!("{scope}{}.", m.name), &format!("{path}::{}", snake(&m.name)), names);
            }
        }
    }
}

fn items(list: &[Item], scope: &str, names: &Names, out: &mut String) -> Result<()> {
    for item in list {
        match item {
            Item::Enum(e) => enumeration(e, out)?,
            Item::Message(m) => message(m, scope, names, out)?,
        }
    }
    Ok(())
}

fn enumeration(e: &Enum, out: &mut String) -> Result<()> {
    let prefix = format!("{}_", snake(&e.name).to_uppercase());
    let doc = if e.doc.is_empty() { format!("/// `{}`.\n", e.name) } else { e.doc.clone() };
    let name = rust_name(&e.name);
    writeln!(out, "{doc}#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]\n#[repr(i32)]")?;
    writeln!(out, "pub enum {name} {{")?;
    for (value, number) in &e.values {
        writeln!(out, "/// `{value}`.\n{} = {number},", camel(value.strip_prefix(&prefix).unwrap_or(value), true))?;
    }
    writeln!(out, "}}\n\nimpl crate::json::Enumeration for {name} {{\nconst NAMES: &'static [(&'static str, i32)] = &[")?;
    for (value, number) in &e.values {
        writeln!(out, "({value:?}, {number}),")?;
    }
    out.push_str("];\n}\n\n");
    Ok(())
}

fn message(m: &Message, scope: &str, names: &Names, out: &mut String) -> Result<()> {
    let inner = format!("{scope}{}.", m.name);
    let module = snake(&m.name);
    let doc = if m.doc.is_empty() { format!("/// `{}`.\n", m.name) } else { m.doc.clone() };
    writeln!(out, "{doc}#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]\n#[serde(default)]")?;
    writeln!(out, "pub struct {} {{", rust_name(&m.name))?;
    for field in &m.fields {
        let shape = Shape::of(field, &inner, names)?;
        let doc = if field.doc.is_empty() { format!("/// `{}`.\n", field.name) } else { field.doc.clone() };
        let camel = camel(&field.name, false);
        let alias = if camel == field.name { String::new() } else { format!(", alias = {:?}", field.name) };
        writeln!(out, "{doc}#[prost({}, tag = \"{}\")]", shape.prost, field.tag)?;
        writeln!(out, "#[serde(rename = {camel:?}{alias}{})]", shape.serde)?;
        writeln!(out, "pub {}: {},", rust_field(&field.name), shape.rust)?;
    }
    for (name, members) in &m.oneofs {
        let tags: Vec<String> = members.iter().map(|f| f.tag.to_string()).collect();
        let ty = self::camel(name, true);
        writeln!(
            out,
            "/// At most one of these.\n#[prost(oneof = \"{module}::{ty}\", tags = \"{}\")]\n#[serde(flatten)]",
            tags.join(", ")
        )?;
        writeln!(out, "pub {name}: Option<{module}::{ty}>,")?;
    }
    out.push_str("}\n\n");
    if m.items.is_empty() && m.oneofs.is_empty() {
        return Ok(());
    }
    writeln!(out, "/// What belongs to [`{}`] alone.\npub mod {module} {{", rust_name(&m.name))?;
    items(&m.items, &inner, names, out)?;
    for (name, members) in &m.oneofs {
        let doc = format!("/// The choices of `{name}`.\n");
        writeln!(
            out,
            "{doc}#[derive(Clone, PartialEq, prost::Oneof, serde::Serialize, serde::Deserialize)]\n#[allow(clippy::large_enum_variant)]\npub enum {} {{",
            camel(name, true)
        )?;
        for field in members {
            let shape = Shape::of(field, &inner, names)?;
            let prost = shape.prost.trim_end_matches(", optional");
            let rust = shape.rust.strip_prefix("Option<").and_then(|t| t.strip_suffix('>')).unwrap_or(&shape.rust);
            let with = if field.ty == "bytes" { "#[serde(with = \"crate::json::bytes\")] " } else { "" };
            let name = camel(&field.name, false);
            writeln!(out, "/// `{}`.\n#[prost({prost}, tag = \"{}\")]\n#[serde(rename = {name:?})]", field.name, field.tag)?;
            writeln!(out, "{}({with}{rust}),", camel(&field.name, true))?;
        }
        out.push_str("}\n");
    }
    out.push_str("}\n\n");
    Ok(())
}

/// How one field looks in Rust.
struct Shape {
    rust: String,
    prost: String,
    serde: String,
}

impl Shape {
    fn of(field: &Field, scope: &str, names: &Names) -> Result<Self> {
        const SKIP: &str = ", skip_serializing_if = \"crate::json::is_default\"";
        let lenient = |f: &str| format!(", deserialize_with = \"crate::json::{f}\"{SKIP}");
        let (rust, prost, serde) = match field.ty.as_str() {
            "string,string" => {
                ("std::collections::BTreeMap<String, String>".into(), "btree_map = \"string, string\"".into(), lenient("or_default"))
            }
            "string" => ("String".to_owned(), "string".to_owned(), lenient("or_default")),
            "bool" => ("bool".into(), "bool".into(), lenient("or_default")),
            "double" => ("f64".into(), "double".into(), lenient("or_default")),
            "uint32" => ("u32".into(), "uint32".into(), lenient("integer")),
            "int32" => ("i32".into(), "int32".into(), lenient("integer")),
            "sint32" => ("i32".into(), "sint32".into(), lenient("integer")),
            "int64" => ("i64".into(), "int64".into(), format!("{}, serialize_with = \"crate::json::quoted\"", lenient("integer"))),
            "uint64" => ("u64".into(), "uint64".into(), format!("{}, serialize_with = \"crate::json::quoted\"", lenient("integer"))),
            "bytes" => ("bytes::Bytes".into(), "bytes = \"bytes\"".into(), format!(", with = \"crate::json::bytes\"{SKIP}")),
            "google.protobuf.Timestamp" => ("crate::Timestamp".into(), "message".into(), String::new()),
            other => match resolve(other, scope, names)? {
                (path, true) => (
                    "i32".into(),
                    format!("enumeration = \"{path}\""),
                    format!(
                        ", serialize_with = \"crate::json::enum_out::<{path}, _>\", deserialize_with = \"crate::json::enum_in::<{path}, _>\"{SKIP}"
                    ),
                ),
                (path, false) => (path, "message".into(), String::new()),
            },
        };
        let absent = ", skip_serializing_if = \"Option::is_none\"".to_owned();
        Ok(match (field.label, prost == "message") {
            (Label::Repeated, _) => {
                Self { rust: format!("Vec<{rust}>"), prost: format!("{prost}, repeated"), serde: lenient("or_default") }
            }
            (Label::Plain, true) | (Label::Optional, _) => {
                ensure!(
                    matches!(prost.as_str(), "message" | "string" | "bool" | "int32" | "uint32"),
                    "optional {} is not supported",
                    field.ty
                );
                Self { rust: format!("Option<{rust}>"), prost: format!("{prost}, optional"), serde: absent }
            }
            _ => Self { rust, prost, serde },
        })
    }
}

fn resolve(ty: &str, scope: &str, names: &Names) -> Result<(String, bool)> {
    let mut scope = scope.to_owned();
    loop {
        if let Some(found) = names.get(&format!("{scope}{ty}")) {
            return Ok(found.clone());
        }
        if scope.is_empty() {
            bail!("unknown type {ty}");
        }
        let parent = scope.trim_end_matches('.').rfind('.').map_or(0, |dot| dot + 1);
        scope.truncate(parent);
    }
}

fn rust_name(name: &str) -> String {
    if name == "PTY" { "Pty".into() } else { name.into() }
}

fn rust_field(name: &str) -> String {
    if name == "type" { "r#type".into() } else { name.into() }
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut lower_before = false;
    for c in name.chars() {
        if c.is_uppercase() && lower_before {
            out.push('_');
        }
        lower_before = !c.is_uppercase();
        out.extend(c.to_lowercase());
    }
    out
}

fn camel(name: &str, upper: bool) -> String {
    let mut out = String::new();
    for (i, word) in name.split('_').enumerate() {
        let mut chars = word.chars();
        let first = chars.next();
        if i > 0 || upper {
            out.extend(first.map(|c| c.to_ascii_uppercase()))
        } else {
            out.extend(first)
        }
        out.push_str(&if upper { chars.as_str().to_lowercase() } else { chars.as_str().into() });
    }
    out
}
