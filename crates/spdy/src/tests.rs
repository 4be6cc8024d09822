use super::*;

fn all(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Frame> {
    decoder.feed(bytes);
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

fn conversation() -> Vec<Frame> {
    let stream = |stream, kind, id| Frame::SynStream {
        stream,
        fin: kind == "error",
        headers: headers(&[("streamtype", kind), ("port", "80"), ("requestid", id)]),
    };
    vec![
        stream(1, "error", "0"),
        stream(3, "data", "0"),
        Frame::SynReply {
            stream: 3,
            fin: false,
            headers: Vec::new(),
        },
        Frame::Data {
            stream: 3,
            fin: true,
            data: b"hello".to_vec(),
        },
        Frame::Ping(7),
        Frame::Reset {
            stream: 5,
            status: REFUSED_STREAM,
        },
        Frame::GoAway,
    ]
}

/// The number SPDY/3 implementations find in the head of the zlib stream.
#[test]
fn the_dictionary_is_everyones() {
    let (mut a, mut b) = (1u32, 0u32);
    for byte in dictionary::DICTIONARY.iter() {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!(b << 16 | a, 0xe3c6_a7c2);
}

#[test]
fn frames_survive_the_way_however_they_are_cut() {
    let frames = conversation();
    let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
    for frame in &frames {
        encoder.encode(frame, &mut bytes);
    }
    for cut in [1, 2, 7, 19, bytes.len()] {
        let mut decoder = Decoder::default();
        let got: Vec<Frame> = bytes
            .chunks(cut)
            .flat_map(|chunk| all(&mut decoder, chunk))
            .collect();
        assert_eq!(got, frames, "{cut}");
    }
}

#[test]
fn control_frames_have_their_fields_in_place() {
    let mut bytes = Vec::new();
    Encoder::default().encode(&Frame::Ping(5), &mut bytes);
    assert_eq!(bytes, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 5]);
    bytes.clear();
    Encoder::default().data(&mut bytes, 3, true, b"ab");
    assert_eq!(bytes, [0, 0, 0, 3, 1, 0, 0, 2, b'a', b'b']);
}

#[test]
fn long_headers_grow_their_buffers() {
    let long = "x".repeat(20_000);
    let odd: String = (0..20_000u32)
        .map(|i| char::from(33 + (i.wrapping_mul(2_654_435_761) >> 24) as u8 % 90))
        .collect();
    let frame = Frame::SynReply {
        stream: 1,
        fin: true,
        headers: headers(&[("a", &long), ("b", &odd)]),
    };
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    for _ in 0..3 {
        let mut bytes = Vec::new();
        encoder.encode(&frame, &mut bytes);
        assert_eq!(all(&mut decoder, &bytes), std::slice::from_ref(&frame));
    }
}

#[test]
fn long_data_becomes_several_frames() {
    let mut bytes = Vec::new();
    Encoder::default().data(&mut bytes, 1, true, &vec![0; MOST_DATA + 1]);
    assert_eq!(bytes.len(), MOST_DATA + 1 + 2 * HEAD);
    assert_eq!((bytes[4], bytes[HEAD + MOST_DATA + 4]), (0, FIN));
}

#[test]
fn damage_is_an_error() {
    for (bytes, want) in [
        (vec![0x80, 2, 0, 6, 0, 0, 0, 0], Error::Version(2)),
        (vec![0x80, 3, 0, 99, 0, 0, 0, 0], Error::Kind(99)),
        (vec![0x80, 3, 0, 6, 0, 0, 0, 0], Error::Truncated),
        (vec![0, 0, 0, 1, 0, 0xff, 0xff, 0xff], Error::Large),
        (
            vec![0x80, 3, 0, 2, 0, 0, 0, 8, 0, 0, 0, 1, 1, 2, 3, 4],
            Error::Headers,
        ),
    ] {
        let mut decoder = Decoder::default();
        decoder.feed(&bytes);
        assert_eq!(decoder.next_frame(), Err(want));
    }
    let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
    for frame in conversation() {
        encoder.encode(&frame, &mut bytes);
    }
    for i in 0..bytes.len() {
        for flip in [1u8, 0x10, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[i] ^= flip;
            let mut decoder = Decoder::default();
            decoder.feed(&damaged);
            // Whatever it reads, it comes to an end.
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
