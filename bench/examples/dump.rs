//! Not committed: windows and alerts of a fleet as JSON lines.
use eddy_bench::{
    fleet,
    pipeline::{Pipeline, Settings},
};
fn main() {
    let data = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let pipeline =
        Pipeline::new(&Settings { set: vec!["detect.tell_windows=all".into()], ..Default::default() }).unwrap();
    let truth: serde_json::Value = serde_json::from_slice(&std::fs::read(data.join("truth.json")).unwrap()).unwrap();
    for device in truth["devices"].as_array().unwrap() {
        let device = device.as_str().unwrap();
        let outcome = fleet::run_device(&pipeline, &data, device, 300, true).unwrap();
        for m in outcome.messages {
            if m.subject.starts_with("alerts") {
                println!("{}", String::from_utf8_lossy(&m.payload));
                continue;
            }
            let s = eddy_schemas::Scores::decode(&m.payload).unwrap();
            for row in 0..s.rows.len() {
                if s.rows.control(row).is_some() {
                    continue;
                }
                let v: Option<Vec<f32>> = s.window(row).map(|w| w.vector.iter().map(|x| x.to_f32()).collect());
                println!(
                    "{}",
                    serde_json::json!({"s": s.rows.name(row), "t": s.rows.time[row], "f": s.flags[row], "score": s.score[row], "tail": s.tail[row], "v": v, "filled": s.window(row).map(|w| w.filled), "n": m.payload.len()})
                );
            }
        }
    }
}
