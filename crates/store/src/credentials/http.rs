//! The HTTP client for sources of credentials: metadata services and AWS STS.
//!
//! Responses with credentials are small. Each is read completely, with a time and size limit, before the SDK gets it.
//! The SDK itself does not limit the size of a response.

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
use crate::web::{WebConnector, root_cause};

/// The maximum size of a response, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// The time limit for one request and its response, including the connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Creates the client for all sources of credentials. If the system has no CA certificates, the client supports only
/// plain HTTP, as metadata services use. The SDK would panic without certificates.
pub(crate) fn http_client() -> SharedHttpClient {
    let client = aws_smithy_http_client::Builder::new();
    let unbounded = match WebConnector::new(true) {
        Ok(_) => client.tls_provider(Tls::Rustls(CryptoMode::Ring)).build_https(),
        Err(_) => client.build_http(),
    };
    SharedHttpClient::new(BoundedHttpClient(unbounded))
}

#[derive(Debug)]
struct BoundedHttpClient(SharedHttpClient);

#[derive(Debug)]
struct BoundedHttpConnector(SharedHttpConnector);

impl HttpClient for BoundedHttpClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedHttpConnector(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for BoundedHttpConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let host = request.uri().parse::<http::Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
        let host = host.unwrap_or_default();
        let answering = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let whole = async { buffer_body(answering.await?, &host).await };
            let answered =
                timeouts::with_time_limit(scaled(REQUEST_TIMEOUT), &host, || "no credentials yet".to_owned(), whole)
                    .await;
            answered.unwrap_or_else(|late| Err(ConnectorError::timeout(format!("{host}: {late}").into())))
        })
    }
}

/// Returns the response with its body in memory.
async fn buffer_body(mut answer: HttpResponse, host: &str) -> Result<HttpResponse, ConnectorError> {
    let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(whole) => {
            *answer.body_mut() = SdkBody::from(whole.to_bytes());
            Ok(answer)
        }
        Err(error) if error.is::<LengthLimitError>() => {
            let why = format!("the response from {host} is longer than {MAX_ANSWER} bytes, too long for credentials");
            Err(ConnectorError::user(why.into()))
        }
        Err(error) => {
            let why = format!("cannot read the response from {host}: {}", root_cause(&*error));
            Err(ConnectorError::io(why.into()))
        }
    }
}
