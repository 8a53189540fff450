//! HTTP messages, and that none is sent.

use crate::bindings::wasi::http::client::send;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, HeaderError, Method, Request, RequestOptions, RequestOptionsError, Response, Scheme,
};
use crate::bindings::{wit_future, wit_stream};
use crate::case::{both, same, say, wrong};

pub(crate) async fn all() {
    fields().await;
    request().await;
    options().await;
    bodies().await;
    refused().await;
    say("refused").await;
}

fn name(text: &str) -> String {
    text.to_owned()
}

async fn fields() {
    let fields = Fields::new();
    same("append", fields.append("X-One", b"1"), Ok(())).await;
    same("append", fields.append("x-one", b"2"), Ok(())).await;
    same("has", (fields.has("x-oNE"), fields.has("x-two")), (true, false)).await;
    same("get", fields.get("X-ONE"), vec![b"1".to_vec(), b"2".to_vec()]).await;
    same("set", fields.set("x-two", &[b"3".to_vec()]), Ok(())).await;
    let copy = fields.clone();
    same("remove", fields.get_and_delete("x-one"), Ok(vec![b"1".to_vec(), b"2".to_vec()])).await;
    same("delete", fields.delete("x-none"), Ok(())).await;
    same("rest", fields.copy_all(), vec![(name("x-two"), b"3".to_vec())]).await;
    same("copy", copy.copy_all().len(), 3).await;
    for bad in ["", "hey ho", "voil\u{e0}", "(what)"] {
        same(bad, fields.append(bad, b""), Err(HeaderError::InvalidSyntax)).await;
        same(bad, fields.get(bad).len(), 0).await;
    }
    for bad in ["Host", "connection", "Transfer-Encoding"] {
        same(bad, fields.set(bad, &[Vec::new()]), Err(HeaderError::Forbidden)).await;
    }
    let bad = fields.set("x-two", &[b"fine".to_vec(), b"\n".to_vec()]);
    same("a value", bad, Err(HeaderError::InvalidSyntax)).await;
    same("nothing was set", fields.get("x-two"), vec![b"3".to_vec()]).await;
    let long = fields.append("x-long", &vec![b'x'; 1 << 20]);
    same("too long", long, Err(HeaderError::SizeExceeded)).await;
    let list = Fields::from_list(&[(name("a"), b"b".to_vec())]).map(|fields| fields.copy_all());
    same("a list", list, Ok(vec![(name("a"), b"b".to_vec())])).await;
    let bad = Fields::from_list(&[(name("a"), b"\0".to_vec())]).map(drop);
    same("a bad list", bad, Err(HeaderError::InvalidSyntax)).await;
}

fn new_request(headers: Fields, options: Option<RequestOptions>) -> Request {
    let (_, trailers) = wit_future::new(|| Ok(None));
    Request::new(headers, None, trailers, options).0
}

async fn request() {
    let headers = Fields::new();
    same("append", headers.append("a", b"b"), Ok(())).await;
    let request = new_request(headers, None);
    let start = (request.get_method(), request.get_scheme(), request.get_authority());
    same("at first", start, (Method::Get, None, None)).await;
    same("at first", request.get_path_with_query(), None).await;
    same("method", request.set_method(&Method::Other(name("PUT"))), Ok(())).await;
    same("method", request.set_method(&Method::Other(name(""))), Err(())).await;
    same("method", request.get_method(), Method::Put).await;
    same("scheme", request.set_scheme(Some(&Scheme::Other(name("HTTPS")))), Ok(())).await;
    same("scheme", request.set_scheme(Some(&Scheme::Other(name("1")))), Err(())).await;
    same("scheme", request.get_scheme(), Some(Scheme::Https)).await;
    same("authority", request.set_authority(Some("u:p@h:80")), Ok(())).await;
    same("authority", request.set_authority(Some("h:what")), Err(())).await;
    same("authority", request.get_authority(), Some(name("u:p@h:80"))).await;
    same("path", request.set_path_with_query(Some("")), Ok(())).await;
    same("path", request.set_path_with_query(Some("/ ")), Err(())).await;
    same("path", request.get_path_with_query(), Some(name("/"))).await;
    same("no path", request.set_path_with_query(None), Ok(())).await;
    same("no path", request.get_path_with_query(), None).await;
    let headers = request.get_headers();
    same("fixed", headers.append("a", b""), Err(HeaderError::Immutable)).await;
    same("headers", headers.copy_all().len(), 1).await;
    let mine = headers.clone();
    same("a copy is not", mine.append("a", b""), Ok(())).await;
    drop(request);
    same("they stay", headers.copy_all().len(), 1).await;
}

async fn options() {
    let options = RequestOptions::new();
    same("at first", options.get_connect_timeout(), None).await;
    same("set", options.set_connect_timeout(Some(1)), Ok(())).await;
    same("set", options.set_first_byte_timeout(Some(2)), Ok(())).await;
    same("set", options.set_between_bytes_timeout(Some(3)), Ok(())).await;
    let copy = options.clone();
    let request = new_request(Fields::new(), Some(options));
    match request.get_options() {
        None => wrong("no options").await,
        Some(options) => {
            let seen = (options.get_connect_timeout(), options.get_first_byte_timeout());
            same("options", (seen, options.get_between_bytes_timeout()), ((Some(1), Some(2)), Some(3))).await;
            same("fixed", options.set_connect_timeout(None), Err(RequestOptionsError::Immutable)).await;
        }
    }
    same("a copy is not", copy.set_connect_timeout(None), Ok(())).await;
}

/// A body comes out as it went in, and who made the message learns what its taker says. The trailers
/// are given up: the component model lets no component read what is not bytes from itself.
async fn bodies() {
    let (mut to, contents) = wit_stream::new();
    let (trailers_to, trailers) = wit_future::new(|| Ok(None));
    let (response, sent) = Response::new(Fields::new(), Some(contents), trailers);
    same("status", (response.get_status_code(), response.set_status_code(404)), (200, Ok(()))).await;
    same("status", (response.set_status_code(42), response.get_status_code()), (Err(()), 404)).await;
    same("headers", response.get_headers().copy_all().len(), 0).await;
    let (done, taken) = wit_future::new(|| Ok(()));
    let (contents, trailers) = Response::consume_body(response, taken);
    let write = async {
        same("written", to.write_all(b"body".to_vec()).await.len(), 0).await;
        drop(to);
    };
    let read = async {
        same("body", contents.collect().await, b"body".to_vec()).await;
        drop(trailers);
        same("nobody reads", trailers_to.write(Ok(None)).await.is_ok(), false).await;
        same("said", done.write(Err(ErrorCode::LoopDetected)).await.is_ok(), true).await;
    };
    both(write, read).await;
    same("learned", sent.await, Err(ErrorCode::LoopDetected)).await;

    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, sent) = Request::new(Fields::new(), None, trailers, None);
    let (_, taken) = wit_future::new(|| Ok(()));
    let (contents, trailers) = Request::consume_body(request, taken);
    same("no body", contents.collect().await.len(), 0).await;
    drop(trailers);
    same("nothing said", sent.await, Ok(())).await;

    let (mut to, contents) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, sent) = Request::new(Fields::new(), Some(contents), trailers, None);
    drop(request);
    same("nobody reads", to.write_all(b"x".to_vec()).await, b"x".to_vec()).await;
    same("given up", sent.await, Ok(())).await;
}

async fn refused() {
    let (mut to, contents) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, sent) = Request::new(Fields::new(), Some(contents), trailers, None);
    let _ = request.set_authority(Some("example.com"));
    let answer = send(request).await.map(drop);
    same("sent", answer, Err(ErrorCode::HttpRequestDenied)).await;
    same("sent", sent.await, Err(ErrorCode::HttpRequestDenied)).await;
    same("nobody reads", to.write_all(b"x".to_vec()).await, b"x".to_vec()).await;
}
