//! How long requests are waited for.

use std::time::Duration;

use rbd_protocol::control::Request;

use super::{PATIENCE, patience, usual_patience};

#[test]
fn what_may_take_long_is_waited_for_longer() {
    let resource = String::from("r0");
    let promote = Request::Promote {
        resource: resource.clone(),
        force: false,
    };
    let resize = Request::Resize {
        resource: resource.clone(),
        volume: None,
        assume_clean: false,
    };
    for request in [promote, resize] {
        let usual = usual_patience(&request);
        assert!(patience(None, usual) > PATIENCE, "{request:?}");
        assert_eq!(patience(Some(3), usual), Duration::from_secs(3));
    }
    assert_eq!(usual_patience(&Request::Down { resource }), PATIENCE);
}
