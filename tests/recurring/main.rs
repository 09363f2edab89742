//! Plans that recur: the real binary, day after day, against a sandbox whose bucket of inventories grows, with a gate
//! between them that sees which objects are touched.

mod days;
mod doubt;
#[path = "../support/gate.rs"]
#[expect(dead_code, reason = "what happens meanwhile is for other tests")]
mod gate;
#[path = "../support/inventory.rs"]
#[expect(dead_code, reason = "where an inventory is, and all formats at once, are for other tests")]
mod inventory;
mod kills;
mod lost;
mod model;
mod runs;
mod scale;
#[path = "../plan/scene.rs"]
#[expect(dead_code, reason = "what plan says of objects is for other tests")]
mod scene;
mod schedules;
#[path = "../support/sdk_http.rs"]
mod sdk_http;
mod told;
#[path = "../apply/world.rs"]
#[expect(dead_code, reason = "what became of the objects is read off the gate")]
mod world;
