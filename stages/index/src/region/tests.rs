use std::collections::HashMap;

use eddy_vectors::{quantizer::int8, sketch::Cluster};

use super::*;

/// A region that says what it is told to, and notes what it is asked.
#[derive(Clone, Default)]
pub struct Told {
    pub sketches: Option<HashMap<String, Vec<Arc<Sketch>>>>,
    pub answer: Arc<Mutex<Option<Result<wire::SearchResponse, String>>>>,
    pub asked: Arc<Mutex<Vec<wire::SearchRequest>>>,
}

impl Told {
    /// One whose sketch of `bundle` holds a window of `site` within `radius` of `centre`; `None`: it never answers.
    pub fn new(
        bundle: &str,
        centre: &[f32],
        radius: f32,
        site: &str,
        answer: Option<Result<wire::SearchResponse, String>>,
    ) -> Self {
        let (scale, centroid) = int8::encode(centre).unwrap();
        let cluster = Cluster { centroid, scale, radius, sites: vec![0], windows: 1, labelled: 0 };
        let sketch = Sketch { dimensions: centre.len(), clusters: vec![cluster], sites: vec![site.into()], windows: 1 };
        let sketches = Some(HashMap::from([(bundle.to_owned(), vec![Arc::new(sketch)])]));
        Self { sketches, answer: Arc::new(Mutex::new(answer)), ..Self::default() }
    }

    pub fn asked(&self) -> Vec<wire::SearchRequest> {
        self.asked.lock().unwrap().clone()
    }
}

impl Region for Told {
    fn sketches(&self, bundle: &str) -> Option<Vec<Arc<Sketch>>> {
        self.sketches.as_ref().map(|known| known.get(bundle).cloned().unwrap_or_default())
    }

    async fn search(&self, request: wire::SearchRequest, _: Duration) -> Result<wire::SearchResponse, String> {
        self.asked.lock().unwrap().push(request);
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// What the region says of a window of `site`.
pub fn window(site: &str, distance: f32, label: &str) -> wire::Window {
    wire::Window {
        site: site.into(),
        device: "pump".into(),
        channel: "t".into(),
        distance,
        alert: "00ff".into(),
        label: label.into(),
        label_origin: format!("{site}/cli"),
        ..wire::Window::default()
    }
}

pub fn config() -> Config {
    let defaults: toml::Table = include_str!("../../default.toml").parse().unwrap();
    defaults["index"].clone().try_into().unwrap()
}

fn asking(region: &Told) -> Asking<Told> {
    let telemetry = Arc::new(Telemetry::new("index", 0, Duration::from_secs(30)));
    Asking::new(region.clone(), "s".into(), &config(), telemetry)
}

async fn asked(asking: &Asking<Told>, question: Question) -> Option<RegionContext> {
    asking.ask(vec![question], asking.until()).await.remove(0)
}

fn answered(windows: Vec<wire::Window>) -> Option<Result<wire::SearchResponse, String>> {
    Some(Ok(wire::SearchResponse { neighbours: windows, windows: 77, missing_shards: vec![3], ..Default::default() }))
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_where_another_site_could_know_and_told_what_it_says() {
    let region =
        Told::new("b", &[3.0, 4.0], 0.5, "other", answered(vec![window("other", 0.1, "leak"), window("s", 0.2, "")]));
    let asking = asking(&region);
    let near = asking.question("b", &[3.0, 4.5], 0.1, "t");
    let told = asked(&asking, near).await.unwrap();
    assert_eq!((told.asked, told.windows, told.missing_shards), (Asked::Answered, 77, vec![3]));
    assert_eq!(told.neighbours.len(), 1, "its own windows are no news");
    let label = FoundLabel { name: "leak".into(), origin: "other/cli".into(), time: 0 };
    assert_eq!((told.neighbours[0].site.as_str(), told.neighbours[0].label.as_ref()), ("other", Some(&label)));
    let request = region.asked().remove(0);
    assert_eq!((request.vector, request.bundle.as_str(), request.radius), (vec![3.0, 4.5], "b", 0.1));
    assert_eq!((request.other_than_site.as_str(), request.channel.as_str(), request.k), ("s", "t", 5));
    // Past the sphere and the radius.
    let far = asking.question("b", &[3.0, 5.0], 0.1, "t");
    assert_eq!(asked(&asking, far).await.unwrap().asked, Asked::NothingNear);
    let other_bundle = asking.question("c", &[3.0, 4.0], 0.1, "t");
    assert_eq!(asked(&asking, other_bundle).await.unwrap().asked, Asked::NoSketch);
    assert_eq!(region.asked().len(), 1, "no more than that");
}

#[tokio::test(start_paused = true)]
async fn what_only_this_site_knows_is_not_asked_for_and_no_region_is_none() {
    let own = asking(&Told::new("b", &[3.0, 4.0], 0.5, "s", None));
    assert_eq!(own.question("b", &[3.0, 4.0], 0.1, "t"), Question::Needless(Asked::NothingNear));
    let none = asking(&Told::default());
    assert_eq!(none.question("b", &[3.0, 4.0], 0.1, "t"), Question::None);
    assert_eq!(asked(&none, Question::None).await, None);
}

#[tokio::test(start_paused = true)]
async fn all_questions_together_take_no_longer_than_the_deadline_and_then_none_goes_out_for_a_while() {
    let region = Told::new("b", &[3.0, 4.0], 0.5, "other", None);
    let asking = asking(&region);
    let question = || asking.question("b", &[3.0, 4.0], 0.1, "t");
    let (start, until) = (Instant::now(), asking.until());
    let first = asking.ask(vec![question(), question(), question(), Question::None], until).await;
    assert_eq!(start.elapsed(), Duration::from_millis(300), "the paused clock runs only while all wait");
    let problem = |answer: &Option<RegionContext>| match answer.as_ref().map(|answer| answer.asked.clone()) {
        Some(Asked::NoAnswer { problem }) => problem,
        other => panic!("{other:?}"),
    };
    assert!(first[..3].iter().all(|answer| problem(answer) == "no answer within 300 ms") && first[3].is_none());
    let late = asking.ask(vec![question()], until).await;
    assert!(problem(&late[0]).contains("took all the time"));
    assert_eq!(asked(&asking, question()).await.unwrap().asked, Asked::BreakerOpen);
    assert_eq!(region.asked().len(), 3);
    tokio::time::advance(Duration::from_secs(30)).await;
    *region.answer.lock().unwrap() = answered(vec![]);
    let answers = asking.ask(vec![question(), question()], asking.until()).await;
    let kinds: Vec<Asked> = answers.into_iter().map(|answer| answer.unwrap().asked).collect();
    assert_eq!(kinds, [Asked::Answered, Asked::BreakerOpen], "one at first");
    assert_eq!(asked(&asking, question()).await.unwrap().asked, Asked::Answered);
    *region.answer.lock().unwrap() = Some(Err("the hub is away".into()));
    let refused = asked(&asking, question()).await;
    assert_eq!(problem(&refused), "the hub is away");
}
