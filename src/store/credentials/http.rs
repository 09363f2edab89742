//! The HTTP client of those who hand out credentials: the metadata services, and AWS's STS.
//!
//! Answers with credentials are small. Here each is read whole, within bounds, before the SDK sees any of it: the SDK has
//! no limit of its own for the size of an answer.

use std::time::Duration;

use aws_smithy_http_client::tls::{Provider as Tls, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::timeouts::{self, scaled};
use crate::web::{Connector, innermost};

/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;

/// How long one request may take, connection and answer together.
const PATIENCE: Duration = Duration::from_secs(20);

/// The client that all who hand out credentials are asked with. Where the system has no certificates, at which the SDK
/// panics, it speaks without encryption only, as metadata services do.
pub(in crate::store) fn http_client() -> SharedHttpClient {
    let client = aws_smithy_http_client::Builder::new();
    let unbounded = match Connector::new(true) {
        Ok(_) => client.tls_provider(Tls::Rustls(CryptoMode::Ring)).build_https(),
        Err(_) => client.build_http(),
    };
    SharedHttpClient::new(BoundedClient(unbounded))
}

#[derive(Debug)]
struct BoundedClient(SharedHttpClient);

#[derive(Debug)]
struct BoundedConnector(SharedHttpConnector);

impl HttpClient for BoundedClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let host = request.uri().parse::<http::Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
        let host = host.unwrap_or_default();
        let answering = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let whole = async { read_whole(answering.await?, &host).await };
            let answered = timeouts::within(scaled(PATIENCE), &host, || "no credentials yet".to_owned(), whole).await;
            answered.unwrap_or_else(|late| Err(ConnectorError::timeout(format!("{host}: {late}").into())))
        })
    }
}

/// The same answer, with its body in memory.
async fn read_whole(mut answer: HttpResponse, host: &str) -> Result<HttpResponse, ConnectorError> {
    let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(whole) => {
            *answer.body_mut() = SdkBody::from(whole.to_bytes());
            Ok(answer)
        }
        Err(error) if error.is::<LengthLimitError>() => {
            let why = format!("the answer of {host} has more than {MAX_ANSWER} bytes, which no credentials have");
            Err(ConnectorError::user(why.into()))
        }
        Err(error) => Err(ConnectorError::io(format!("the answer of {host}: {}", innermost(&*error)).into())),
    }
}
