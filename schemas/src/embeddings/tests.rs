use super::*;

fn head(name: &str, dimensions: usize, optional: bool) -> HeadLayout {
    HeadLayout { name: name.into(), dimensions, optional }
}

#[test]
fn an_optional_head_is_there_for_the_rows_that_have_it_and_costs_the_others_nothing() {
    for dimensions in [2, 6] {
        let with = [head("value", 1, false), head("spectrum", dimensions, true), head("last", 1, false)];
        let mut builder = EmbeddingsBuilder::new("digest", &with);
        let mut plain = EmbeddingsBuilder::new("digest", &[head("value", 1, false), head("last", 1, false)]);
        let push = |builder: &mut EmbeddingsBuilder, last: usize| {
            (0..100).for_each(|time| builder.push("d/t", time, 0, 1, false, 0));
            [0, last].iter().for_each(|head| builder.extend_head(*head, &[0.5; 100]));
        };
        push(&mut builder, 2);
        push(&mut plain, 1);
        assert_eq!((builder.bytes(), builder.encode()), (plain.bytes(), plain.encode()));
        push(&mut builder, 2);
        let kind = crate::ControlKind::Recommission { device: "d".into() };
        builder.push_control(&Control { id: "x".into(), origin: "cli".into(), time: 3, kind });
        for time in 0..3 {
            builder.push("d/v", time, 0, 1, false, 0);
            if time != 1 {
                builder.push_optional();
            }
        }
        [0, 2].iter().for_each(|head| builder.extend_head(*head, &[0.5; 3]));
        let vectors: Vec<f32> = (0..2 * dimensions).map(|x| x as f32).collect();
        builder.extend_head(1, &vectors);
        let read = Embeddings::decode(&builder.encode()).unwrap();
        assert_eq!(read.heads.iter().map(|column| &column.head).collect::<Vec<_>>(), with.iter().collect::<Vec<_>>());
        let column = &read.heads[1];
        assert_eq!(column.rows.as_deref(), Some(&[101, 103][..]));
        let mut vector = vec![0.0; dimensions];
        assert!(column.copy_to(103, &mut vector) && vector == vectors[dimensions..]);
        assert!(!column.copy_to(102, &mut vector) && read.heads[2].copy_to(102, &mut [0.0]));
    }
}

/// Found by a property test: such a batch was taken, and could not be written again.
#[test]
fn a_head_without_dimensions_is_refused() {
    let mut rows = RowsBuilder::default();
    rows.push("d/t", 1);
    let (mut fields, mut columns) = (RowsBuilder::fields(), rows.finish());
    for name in ["quality", "filled", "commissioning"] {
        fields.push(Field::new(name, DataType::UInt16, false));
        columns.push(Arc::new(UInt16Array::from(vec![0])) as ArrayRef);
    }
    fields.push(Field::new("period", DataType::Int64, false));
    columns.push(Arc::new(Int64Array::from(vec![0])));
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = Arc::new(Float32Array::from(Vec::<f32>::new()));
    let column = FixedSizeListArray::try_new_with_length(item, 0, values, None, 1).unwrap();
    fields.push(Field::new("head.value", column.data_type().clone(), false));
    columns.push(Arc::new(column));
    let error = Embeddings::decode(&LAYOUT.write(fields, columns, &[])).unwrap_err().to_string();
    assert!(error.contains("\"head.value\" has vectors of no dimension"), "{error}");
}

#[test]
fn the_vectors_of_a_bundle_in_the_shadow_stand_apart() {
    let (heads, shadow) = ([head("value", 1, false)], [head("value", 2, false), head("spectrum", 6, true)]);
    let mut builder = EmbeddingsBuilder::new("old", &heads).with_shadow("new", &shadow);
    assert!(builder.is_of("old", Some("new")) && !builder.is_of("old", None));
    for time in 0..2 {
        builder.push("d/t", time, 0, 1, false, 0);
    }
    builder.push_optional();
    builder.extend_head(0, &[1.0, 2.0]);
    builder.extend_shadow_head(0, &[3.0, 4.0, 5.0, 6.0]);
    builder.extend_shadow_head(1, &[0.5; 6]);
    let read = Embeddings::decode(&builder.encode()).unwrap();
    let laid = |columns: &[HeadColumn]| columns.iter().map(|column| column.head.clone()).collect::<Vec<_>>();
    assert_eq!((read.bundle.as_str(), laid(&read.heads)), ("old", heads.to_vec()));
    let found = read.shadow.unwrap();
    assert_eq!((found.bundle.as_str(), laid(&found.heads)), ("new", shadow.to_vec()));
    let mut vector = [0.0; 2];
    assert!(found.heads[0].copy_to(1, &mut vector) && vector == [5.0, 6.0]);
    assert_eq!(found.heads[1].rows, Some(vec![1]));
    // Without one there is no trace of it.
    let mut plain = EmbeddingsBuilder::new("old", &heads);
    assert!(Embeddings::decode(&plain.encode()).unwrap().shadow.is_none());
}

#[test]
fn round_trip_of_two_heads() {
    let heads = [head("value", 1, false), head("raw", 5, false)];
    let mut builder = EmbeddingsBuilder::new("digest", &heads);
    builder.push("d/t", 1, 0, 1, true, 1000);
    builder.push("d/u", 1, 4, 2, false, 0);
    builder.extend_head(0, &[0.1, 0.2]);
    builder.extend_head(1, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    let kind = crate::ControlKind::Recommission { device: "d".into() };
    builder.push_control(&Control { id: "x".into(), origin: "cli".into(), time: 3, kind });
    let read = Embeddings::decode(&builder.encode()).unwrap();
    assert_eq!(read.bundle, "digest");
    assert_eq!((read.rows.len(), &read.filled[..], &read.commissioning[..]), (3, &[1, 2, 0][..], &[1, 0, 0][..]));
    let (mut value, mut raw) = ([0.0; 1], [0.0; 5]);
    read.heads[0].copy_to(1, &mut value);
    read.heads[1].copy_to(1, &mut raw);
    assert_eq!((value, raw), ([0.2], [6.0, 7.0, 8.0, 9.0, 10.0]));
    assert!(read.rows.control(2).is_some());
}
