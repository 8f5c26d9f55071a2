//! `template_id(message)` and `template(message)`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;

use super::{Mined, Templates};

/// Makes `template_id(message)` and `template(message)` known to a session: the id of a message's
/// template, and its text. Where `learns`, messages are learnt from; else what is not known is
/// null.
pub fn register_template_functions(
    context: &SessionContext,
    templates: &Arc<Templates>,
    learns: bool,
) {
    for (name, shows_text) in [("template_id", false), ("template", true)] {
        let templates = Arc::clone(templates);
        // What a message's template is does not depend on the query, if on what came before.
        let signature = Signature::string(1, Volatility::Immutable);
        let function = TemplateFunction { name, shows_text, learns, templates, signature };
        context.register_udf(ScalarUDF::from(function));
    }
}

struct TemplateFunction {
    name: &'static str,
    shows_text: bool,
    learns: bool,
    templates: Arc<Templates>,
    signature: Signature,
}

impl TemplateFunction {
    fn of(&self, mined: &mut Mined, message: &str) -> Option<String> {
        let id = match self.learns {
            true => mined.observe(message),
            false => mined.miner.find(message)?,
        };
        match self.shows_text {
            true => mined.miner.template(id).map(|template| template.to_string()),
            false => Some(id.to_string()),
        }
    }
}

impl PartialEq for TemplateFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.learns == other.learns
            && Arc::ptr_eq(&self.templates, &other.templates)
    }
}

impl Eq for TemplateFunction {}

impl Hash for TemplateFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, self.learns).hash(state);
    }
}

impl fmt::Debug for TemplateFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateFunction").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ScalarUDFImpl for TemplateFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let messages = args.args[0].to_array(args.number_rows)?;
        let messages = cast(&messages, &DataType::Utf8)?;
        let mut answers = StringBuilder::new();
        let mut mined = self.templates.mined.lock();
        for message in messages.as_string::<i32>() {
            answers.append_option(message.and_then(|message| self.of(&mut mined, message)));
        }
        Ok(ColumnarValue::Array(Arc::new(answers.finish())))
    }
}
