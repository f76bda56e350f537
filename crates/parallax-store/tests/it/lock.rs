//! One server for each database.

use parallax_core::error::Code;
use parallax_store::{Store, StoreError};

use crate::database::on_both;

on_both! {
    async fn a_second_server_is_refused_and_told_who_holds_the_database(database: Database) {
        let first = database.open().await;
        let error = Store::open(&database.config).await.expect_err("the first holds it");
        let StoreError::AlreadyServed { holder, .. } = &error else {
            panic!("{error:?}");
        };
        let process = format!("process {}", std::process::id());
        assert!(holder.contains(&process), "{holder}");
        assert!(error.to_string().contains("stop that server"), "{error}");
        assert_eq!(parallax_core::error::Error::from(error).code, Code::StoreUnavailable);
        first.check_writable().await.expect("the refused one did no harm");
        first.close().await;
        let second = Store::open(&database.config).await.expect("the first has gone");
        second.check_writable().await.expect("it works");
    }
}
