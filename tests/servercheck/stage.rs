//! A bucket on a server of some kind, and what has become of its objects.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::bucket::{Nature, Object};
use crate::scene::{Scene, key};
use crate::world::Ran;

/// Everything that the bucket holds.
pub(crate) const ALL: &str = "[manifest.prefix]\nbucket = \"bkt\"\n";

pub(crate) const PUT: &str = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
pub(crate) const ADD: &str = "[operation.add_object_tagging]\ntags = { t = \"1\" }\n";
pub(crate) const DELETE: &str = "[operation.delete_object_tagging]\n";
pub(crate) const ACL: &str = "[operation.put_object_acl]\nacl = \"public-read\"\n";
pub(crate) const RESTORE: &str = "[operation.restore_object]\ndays = 1\n";

/// One object after the other.
pub(crate) const ONE: &str = "[limits]\nconcurrency = 1\n";

/// A document of no tags, and of a private ACL: objects may be just that.
pub(crate) const NO_TAGS: &str = "<Tagging><TagSet></TagSet></Tagging>";
pub(crate) const PRIVATE: &str = "<AccessControlPolicy><Owner><ID>me</ID></Owner><AccessControlList><Grant><Grantee>\
    <ID>me</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>";

/// How many objects there are.
pub(crate) const COUNT: usize = 20;

pub(crate) struct Stage {
    pub(crate) scene: Scene,
    before: BTreeMap<Vec<u8>, Bytes>,
}

impl Stage {
    /// Twenty objects, each with a content of its own, and a plan with this operation.
    pub(crate) fn new(nature: Nature, rest: &str) -> Self {
        Self::of(nature, rest, |n| format!("content of object {n}"))
    }

    /// The same with these contents.
    pub(crate) fn of(nature: Nature, rest: &str, content: impl Fn(usize) -> String) -> Self {
        let mut scene = Scene::with_objects(0);
        scene.trusted = false;
        for n in 0..COUNT {
            let class = if rest.contains("restore") { "GLACIER".to_owned() } else { String::new() };
            scene.server.put("bkt", key(n), Object { body: content(n).into(), class, ..Object::default() });
        }
        scene.server.turn(nature);
        scene.plan(&format!("{ALL}{rest}"));
        let before = scene.server.bodies("bkt");
        Self { scene, before }
    }

    /// The keys of the objects that are not what they were: changed, gone, or new.
    pub(crate) fn changed(&self) -> Vec<String> {
        let now = self.scene.server.bodies("bkt");
        let keys = self.before.keys().chain(now.keys()).collect::<std::collections::BTreeSet<_>>();
        let differs = |key: &&&Vec<u8>| self.before.get(**key) != now.get(**key);
        keys.iter().filter(differs).map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }

    /// Runs a command that must be refused, with the reason on standard error and no command that would do harm.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str], why: &str) -> Ran {
        let ran = self.scene.run(args).ended(6);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(why), "{args:?}: {said}");
        assert!(!said.contains("next: batchplan apply"), "{args:?}: {said}");
        ran
    }
}
