//! What a handler is answered when it runs natively.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Address, HttpError, Request, Response};

type Answer = Rc<dyn Fn(&Request) -> Result<Response, HttpError>>;

thread_local! {
    static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
}

pub(super) fn send(request: &Request, _address: &Address<'_>) -> Result<Response, HttpError> {
    // It may itself set another.
    let answer = ANSWER.with_borrow(Clone::clone);
    match answer {
        Some(answer) => answer(request),
        None => Err(HttpError::Failed(
            "nothing answers it: see `testing::answer_http`".to_owned(),
        )),
    }
}

pub(crate) fn answer(answer: impl Fn(&Request) -> Result<Response, HttpError> + 'static) {
    ANSWER.set(Some(Rc::new(answer)));
}
