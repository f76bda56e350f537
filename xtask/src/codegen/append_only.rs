//! Whether a new contract still means what the old one meant: v1 only grows.

use std::collections::BTreeMap;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

/// One sentence for each promise of `old` that `new` breaks; empty when it only grew.
pub fn broken(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let (old, new) = (Contract::of(old), Contract::of(new));
    let mut broken = Vec::new();
    for (name, before) in &old.messages {
        match new.messages.get(name) {
            None => broken.push(format!("message {name} was removed")),
            Some(after) => fields(name, before, after, &mut broken),
        }
    }
    for (name, before) in &old.enums {
        match new.enums.get(name) {
            None => broken.push(format!("enum {name} was removed")),
            Some(after) => values(name, before, after, &mut broken),
        }
    }
    for (name, before) in &old.services {
        match new.services.get(name) {
            None => broken.push(format!("service {name} was removed")),
            Some(after) => methods(name, before, after, &mut broken),
        }
    }
    broken
}

/// Everything by its full name.
#[derive(Default)]
struct Contract<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
    services: BTreeMap<String, &'a ServiceDescriptorProto>,
}

impl<'a> Contract<'a> {
    fn of(set: &'a FileDescriptorSet) -> Self {
        let mut contract = Self::default();
        for file in &set.file {
            let package = file.package();
            for message in &file.message_type {
                contract.message(package, message);
            }
            for item in &file.enum_type {
                let name = format!("{package}.{}", item.name());
                contract.enums.insert(name, item);
            }
            for service in &file.service {
                let name = format!("{package}.{}", service.name());
                contract.services.insert(name, service);
            }
        }
        contract
    }

    fn message(&mut self, scope: &str, message: &'a DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.message(&name, nested);
        }
        for item in &message.enum_type {
            self.enums.insert(format!("{name}.{}", item.name()), item);
        }
        self.messages.insert(name, message);
    }
}

fn fields(name: &str, old: &DescriptorProto, new: &DescriptorProto, broken: &mut Vec<String>) {
    for before in &old.field {
        let label = format!("{name}.{}", before.name());
        let Some(after) = new.field.iter().find(|f| f.name == before.name) else {
            broken.push(format!("field {label} was removed or renamed"));
            continue;
        };
        if after.number != before.number {
            broken.push(format!(
                "field {label} was renumbered from {} to {}",
                before.number(),
                after.number()
            ));
        }
        if shape(before) != shape(after) || home(old, before) != home(new, after) {
            broken.push(format!("field {label} changed its type"));
        }
    }
}

/// What decides how a field's bytes are read.
fn shape(field: &FieldDescriptorProto) -> (i32, i32, &str, bool) {
    let (kind, label) = (field.r#type() as i32, field.label() as i32);
    (kind, label, field.type_name(), field.proto3_optional())
}

/// The oneof that a field belongs to; joining or leaving one changes its meaning.
fn home<'a>(message: &'a DescriptorProto, field: &FieldDescriptorProto) -> Option<&'a str> {
    let index = usize::try_from(field.oneof_index?).ok()?;
    message.oneof_decl.get(index)?.name.as_deref()
}

fn values(
    name: &str,
    old: &EnumDescriptorProto,
    new: &EnumDescriptorProto,
    broken: &mut Vec<String>,
) {
    for before in &old.value {
        let after = new.value.iter().find(|value| value.name == before.name);
        if after.is_none_or(|after| after.number != before.number) {
            let value = before.name();
            broken.push(format!("value {name}.{value} was removed or renumbered"));
        }
    }
}

fn methods(
    name: &str,
    old: &ServiceDescriptorProto,
    new: &ServiceDescriptorProto,
    broken: &mut Vec<String>,
) {
    for before in &old.method {
        let rpc = before.name();
        let Some(after) = new.method.iter().find(|m| m.name == before.name) else {
            broken.push(format!("rpc {name}.{rpc} was removed"));
            continue;
        };
        let types = |m: &prost_types::MethodDescriptorProto| {
            let streaming = (m.client_streaming(), m.server_streaming());
            (m.input_type.clone(), m.output_type.clone(), streaming)
        };
        if types(before) != types(after) {
            broken.push(format!("rpc {name}.{rpc} changed its type"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(body: &str) -> FileDescriptorSet {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let text = format!("syntax = \"proto3\";\npackage p;\n{body}");
        std::fs::write(dir.path().join("a.proto"), text).expect("a file");
        protox::compile(["a.proto"], [dir.path()]).expect("the contract compiles")
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        assert_eq!(broken(&compile(old), &compile(new)), expected);
    }

    const OLD: &str = "message M { string a = 1; oneof o { int32 b = 2; } enum E { Z = 0; ONE = 1; } }\nservice S { rpc Go(M) returns (stream M); }";

    #[test]
    fn growing_is_allowed() {
        let new = "message N {}\nmessage M { string a = 1; oneof o { int32 b = 2; N c = 4; } N d = 3; enum E { Z = 0; ONE = 1; TWO = 2; } }\nservice S { rpc Go(M) returns (stream M); rpc Stop(M) returns (M); }";
        check(OLD, new, &[]);
    }

    #[test]
    fn removing_renumbering_and_retyping_are_not() {
        let new = "message M { int64 a = 1; oneof o { int32 b = 5; } enum E { Z = 0; } }\nservice S { rpc Go(M) returns (M); }";
        check(
            OLD,
            new,
            &[
                "field p.M.a changed its type",
                "field p.M.b was renumbered from 2 to 5",
                "value p.M.E.ONE was removed or renumbered",
                "rpc p.S.Go changed its type",
            ],
        );
        check(
            OLD,
            "message M { string a = 1; oneof o { int32 b = 2; } }",
            &["enum p.M.E was removed", "service p.S was removed"],
        );
    }

    #[test]
    fn leaving_a_oneof_is_a_change_of_type() {
        let new = OLD.replace("oneof o { int32 b = 2; }", "int32 b = 2;");
        check(OLD, &new, &["field p.M.b changed its type"]);
    }

    #[test]
    fn a_reused_number_is_reported_as_a_removed_field() {
        let new = OLD.replace("string a = 1;", "string other = 1;");
        check(OLD, &new, &["field p.M.a was removed or renamed"]);
    }
}
