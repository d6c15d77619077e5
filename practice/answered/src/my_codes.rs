//! Codes drawn at random, with the constructor that the starter has.

use std::sync::Arc;

use url_shortener::codes::random::Random;
use url_shortener::codes::{Codes, Draw, Traits};
use url_shortener::{Code, Error};

use crate::MyLinks;

/// Seven random digits.
pub struct MyCodes(Random);

impl MyCodes {
    /// The store is not asked: a taken code is drawn again.
    pub fn new(_: Arc<MyLinks>) -> Self {
        Self(Random::new(7).expect("seven is a length"))
    }
}

impl Codes for MyCodes {
    fn traits(&self) -> Traits {
        self.0.traits()
    }

    async fn draw(&self, draw: Draw<'_>) -> Result<Code, Error> {
        self.0.draw(draw).await
    }
}
