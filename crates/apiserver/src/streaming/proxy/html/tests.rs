use proptest::prelude::*;

use super::*;

/// Puts `P` before what begins with a slash, and knows no URL with a blank.
fn rewrite(url: &[u8]) -> Option<Vec<u8>> {
    match url {
        _ if url.contains(&b' ') => None,
        [b'/', ..] => Some([b"P", url].concat()),
        _ => Some(url.to_vec()),
    }
}

fn html(pieces: &[&[u8]]) -> Vec<u8> {
    let mut html = Html::new(rewrite);
    let mut out = Vec::new();
    for piece in pieces {
        html.feed(piece, &mut out);
    }
    html.finish(&mut out);
    out
}

/// What goes in and what comes out; `=` where both are the same.
const TABLE: &[(&str, &str)] = &[
    ("<a href=\"/x\">t</a>", "<a href=\"P/x\">t</a>"),
    ("<a href='/x'>", "<a href=\"P/x\">"),
    ("<a href=/x>", "<a href=\"P/x\">"),
    ("<a href=/x/>", "<a href=\"P/x/\">"),
    ("<a href = /x id=/y>", "<a href = \"P/x\" id=/y>"),
    ("<A HREF=\"/x\" Id='/y'>", "<A HREF=\"P/x\" Id='/y'>"),
    ("<a\nid/href\t=\r\"/x\">", "<a\nid/href\t=\r\"P/x\">"),
    ("<a/href=/x>", "<a/href=\"P/x\">"),
    ("<a id=/ href=/x>", "<a id=/ href=\"P/x\">"),
    ("<img src=\"/x\"/><br/>", "<img src=\"P/x\"/><br/>"),
    // What has no URLs, and what is none.
    ("<a href=\"x\"><a href=\"\"><a href><a href=>", "="),
    ("<a href=\"/a b\">", "="),
    ("<a src=/x><b href=/x><aa href=/x><a xhref=/x>", "="),
    ("</a href=\"/x\">", "="),
    ("href=\"/x\" < a href=/x>", "="),
    ("<a id=\"<a href=/x>\">", "="),
    ("<a href/=/x>", "="),
    ("<a ==href=/x>", "="),
    ("<averyveryverylongnameindeed href=/x>", "="),
    // References.
    (
        "<a href=\"/x?a=1&amp;b=2\">",
        "<a href=\"P/x?a=1&amp;b=2\">",
    ),
    ("<a href=\"/x?a=1&b=2\">", "<a href=\"P/x?a=1&amp;b=2\">"),
    ("<a href='/\"&#39;&lt;'>", "<a href=\"P/&#34;&#39;&lt;\">"),
    ("<a href=&#x2f;x>", "<a href=\"P/x\">"),
    ("<a href='x?a&amp;b&c'>", "="),
    // Comments and their like.
    (
        "<!--<a href=/x>--><a href=/x>",
        "<!--<a href=/x>--><a href=\"P/x\">",
    ),
    ("<!--><a href=/x>-->", "<!--><a href=\"P/x\">-->"),
    ("<!---><a href=/x>-->", "<!---><a href=\"P/x\">-->"),
    (
        "<!-- - -> -- > --!x><a href=/x>--!><a href=/x>",
        "<!-- - -> -- > --!x><a href=/x>--!><a href=\"P/x\">",
    ),
    (
        "<!DOCTYPE html><a href=/x>",
        "<!DOCTYPE html><a href=\"P/x\">",
    ),
    ("<!-x><a href=/x>", "<!-x><a href=\"P/x\">"),
    (
        "<!><?x <a href=/x><a href=/x>",
        "<!><?x <a href=/x><a href=\"P/x\">",
    ),
    (
        "</><a href=/x></ <a href=/x>",
        "</><a href=\"P/x\"></ <a href=/x>",
    ),
    ("<![CDATA[<a href=/x>]]>", "="),
    // Text that looks like tags.
    (
        "<script src=/x>'<a href=/x>'</script><a href=/x>",
        "<script src=\"P/x\">'<a href=/x>'</script><a href=\"P/x\">",
    ),
    (
        "<SCRIPT><a href=/x></scriptx></ script></ScRiPt ><a href=/x>",
        "<SCRIPT><a href=/x></scriptx></ script></ScRiPt ><a href=\"P/x\">",
    ),
    (
        "<script><!--<script></script><a href=/x>--></script><a href=/x>",
        "<script><!--<script></script><a href=/x>--></script><a href=\"P/x\">",
    ),
    (
        "<script><!--</script><a href=/x>",
        "<script><!--</script><a href=\"P/x\">",
    ),
    (
        "<script><!-><script></script><a href=/x>",
        "<script><!-><script></script><a href=\"P/x\">",
    ),
    (
        "<script><!--<script>--></script><a href=/x>",
        "<script><!--<script>--></script><a href=\"P/x\">",
    ),
    (
        "<title><a href=/x></title><a href=/x>",
        "<title><a href=/x></title><a href=\"P/x\">",
    ),
    (
        "<style><!--</style><a href=/x>",
        "<style><!--</style><a href=\"P/x\">",
    ),
    (
        "<textarea><a href=/x><</textarea/><a href=/x>",
        "<textarea><a href=/x><</textarea/><a href=\"P/x\">",
    ),
    ("<noscript><img src=/x></noscript>", "="),
    (
        "<iframe src=/x><a href=/x></iframe>",
        "<iframe src=\"P/x\"><a href=/x></iframe>",
    ),
    ("<plaintext><a href=/x></plaintext><a href=/x>", "="),
    // Ends too early.
    ("<a href=\"/x", "="),
    ("<a href=/x", "="),
    ("<a href=\"/x\" ", "<a href=\"P/x\" "),
    ("<", "="),
    ("<!--", "="),
];

#[test]
fn urls_are_found() {
    for (text, want) in TABLE {
        let want = if *want == "=" { text } else { want };
        let got = String::from_utf8(html(&[text.as_bytes()])).unwrap();
        assert_eq!(got, *want, "{text}");
    }
}

#[test]
fn every_attribute_of_upstream_is_known() {
    for (element, names) in [
        ("a", "href"),
        ("applet", "codebase"),
        ("area", "href"),
        ("audio", "src"),
        ("base", "href"),
        ("blockquote", "cite"),
        ("body", "background"),
        ("button", "formaction"),
        ("command", "icon"),
        ("del", "cite"),
        ("embed", "src"),
        ("form", "action"),
        ("frame", "longdesc src"),
        ("head", "profile"),
        ("html", "manifest"),
        ("iframe", "longdesc src"),
        ("img", "longdesc src usemap"),
        ("input", "src usemap formaction"),
        ("ins", "cite"),
        ("link", "href"),
        ("object", "classid codebase data usemap"),
        ("q", "cite"),
        ("script", "src"),
        ("source", "src"),
        ("video", "poster src"),
    ] {
        for name in names.split(' ') {
            let got = html(&[format!("<{element} x {name}=\"/y\">").as_bytes()]);
            let want = format!("<{element} x {name}=\"P/y\">");
            assert_eq!(String::from_utf8(got).unwrap(), want);
        }
    }
}

#[test]
fn it_is_the_same_wherever_a_piece_ends() {
    for (text, _) in TABLE {
        let text = text.as_bytes();
        let whole = html(&[text]);
        for at in 0..=text.len() {
            let (one, two) = text.split_at(at);
            assert_eq!(html(&[one, two]), whole, "{at}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(html(&single), whole);
    }
}

#[test]
fn no_more_than_one_short_value_is_kept_back() {
    let mut html = Html::new(rewrite);
    let mut out = Vec::new();
    let mut fed = 0;
    let mut feed = |piece: &[u8]| {
        html.feed(piece, &mut out);
        fed += piece.len();
        assert!(fed - out.len() <= LONGEST + 1);
    };
    feed(b"<img src='/");
    for _ in 0..1000 {
        feed(&[b'x'; 1000]);
    }
    feed(b"'><a href=x><!-- ");
    assert_eq!(fed, out.len());
}

/// Texts made of what the tokenizer looks at.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "<",
        ">",
        "/",
        "!",
        "-",
        "--",
        "=",
        "'",
        "\"",
        " ",
        "\n",
        "?",
        "&amp;",
        "&",
        "a",
        "A",
        "href",
        "<a ",
        "href=",
        "/x",
        "<script",
        "</script",
        "script",
        "<!--",
        "-->",
        "<title>",
        "</title>",
        "<img src=/y>",
        "\0",
        "é",
    ];
    let words = prop::collection::vec(prop::sample::select(words.to_vec()), 0..40);
    words.prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #[test]
    fn pieces_make_no_difference(text in texts(), cuts in prop::collection::vec(0_usize..200, 0..8)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
        prop_assert_eq!(html(&pieces), html(&[&text]));
    }

    #[test]
    fn without_links_nothing_changes(text in texts()) {
        let mut html = Html::new(|_: &[u8]| None);
        let mut out = Vec::new();
        html.feed(&text, &mut out);
        html.finish(&mut out);
        prop_assert_eq!(out, text);
    }
}
