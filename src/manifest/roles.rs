//! The tables `[inputs.NAME]`: what the network's inputs are for.

use std::{collections::BTreeMap, format, ops::Range, vec, vec::Vec};

use toml::Spanned;

use super::{
    Condition, Encoding, Input, Role, Sampling,
    file::*,
    parse::{Checked, Fault, fault, refuse, span, value},
    rules::{self, Broken, Part},
};

/// The inputs in the order of the file, each with its place.
pub(super) fn inputs(raw: BTreeMap<Line, Spanned<RawInput>>) -> Checked<Vec<Spanned<Input>>> {
    let parse = |(Line(name), input): (Line, Spanned<RawInput>)| {
        let at = input.span();
        let role = input.into_inner().parse(&name)?;
        Ok(Spanned::new(at, Input { name, role }))
    };
    let mut inputs = raw.into_iter().map(parse).collect::<Checked<Vec<_>>>()?;
    inputs.sort_by_key(|input| input.span().start);
    Ok(inputs)
}

/// The rules about several inputs, whose `table` is at a place of its own.
pub(super) fn check_roles(
    inputs: &[Spanned<Input>],
    sampling: &Spanned<Sampling>,
    table: Range<usize>,
) -> Checked<()> {
    let plain: Vec<&Input> = inputs.iter().map(Spanned::get_ref).collect();
    rules::roles(&plain, sampling.get_ref()).map_err(|Broken { at, problem }| {
        let at = match at {
            Part::Input(i) => inputs.get(i).map_or(table, Spanned::span),
            Part::Inputs => table,
            Part::Sampling => sampling.span(),
        };
        Fault { at, problem }
    })
}

impl RawInput {
    fn parse(self, name: &str) -> Checked<Role> {
        let role = *self.role.get_ref();
        if role != RawRole::Guidance {
            let keys = [("encoding", span(&self.encoding)), ("scale", span(&self.scale))];
            refuse("only an input with the role \"guidance\" has it", &keys)?;
        }
        if matches!(role, RawRole::Condition | RawRole::Guidance) {
            return self.condition(name).map(Role::Condition);
        }
        let only_condition = [
            ("default", span(&self.default)),
            ("negative", span(&self.negative)),
            ("range", span(&self.range)),
            ("integer", span(&self.integer)),
            ("prior", span(&self.prior)),
        ];
        refuse("only an input with the role \"condition\" has it", &only_condition)?;
        if role != RawRole::State {
            refuse("a time is one number for each sample", &[("shape", span(&self.shape))])?;
        }
        match (role, self.shape) {
            (RawRole::Time, _) => Ok(Role::Time),
            (RawRole::Target, _) => Ok(Role::Target),
            (RawRole::Duration, _) => Ok(Role::Duration),
            (RawRole::Step, _) => Ok(Role::Step),
            (RawRole::Steps, _) => Ok(Role::Steps),
            (_, Some(shape)) => Ok(Role::State { shape: shape.into_inner().0 }),
            (_, None) => fault(&self.role, format_args!("`shape` is missing: the state `{name}` needs one")),
        }
    }

    fn condition(self, name: &str) -> Checked<Condition> {
        let encoding = self.encoding()?;
        let places = [("default", span(&self.default)), ("negative", span(&self.negative))];
        let list = |key: Key<Numbers>| match key.map(Spanned::into_inner) {
            None => (None, Vec::new()),
            Some(Numbers::One(value)) => (Some(vec![value]), Vec::new()),
            Some(Numbers::List(values)) => {
                let shape = vec![values.len()];
                (Some(values), shape)
            }
        };
        // A list of defaults is a shape already.
        let ((default, listed), (negative, _)) = (list(self.default), list(self.negative));
        let condition = Condition {
            shape: self.shape.map_or(listed, |shape| shape.into_inner().0),
            default,
            negative,
            range: value(&self.range).map(|range| range.0),
            integer: value(&self.integer).unwrap_or(false),
            prior: value(&self.prior).unwrap_or(false),
            encoding,
        };
        for ((key, at), values) in places.into_iter().zip([&condition.default, &condition.negative]) {
            if let (Some(at), Some(values)) = (at, values)
                && let Err(error) = condition.check(name, values)
            {
                return Err(Fault { at, problem: format!("`{key}`: {error}") });
            }
        }
        Ok(condition)
    }

    /// How the network reads the scale of its guidance.
    fn encoding(&self) -> Checked<Option<Encoding>> {
        if *self.role.get_ref() != RawRole::Guidance {
            return Ok(None);
        }
        let keys = [("negative", span(&self.negative)), ("prior", span(&self.prior))];
        refuse("the scale of guidance is one number", &keys)?;
        let encoding = value(&self.encoding).unwrap_or(RawEncoding::Scaled);
        if matches!(encoding, RawEncoding::Reciprocal | RawEncoding::Embedding) {
            refuse("this `encoding` has a scale of its own", &[("scale", span(&self.scale))])?;
        }
        let scale = value(&self.scale).map_or(1.0, |scale| scale.0);
        Ok(Some(match encoding {
            RawEncoding::Scaled => Encoding::Scaled { scale },
            RawEncoding::Excess => Encoding::Excess { scale },
            RawEncoding::Reciprocal => Encoding::Reciprocal,
            RawEncoding::Embedding => Encoding::Embedding,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Manifest, *};
    use std::string::{String, ToString};

    const STATE: &str = "[inputs.x]\nrole = 'state'\nshape = [4]\n";
    const TIME: &str = "[inputs.t]\nrole = 'time'\n";
    const FLOW: &str = "family = 'rectified-flow'\ntime = 'unit'\nprediction = 'velocity'";
    const STEPS: &str = "family = 'rectified-flow'\ntime = 'unit'\nprediction = 'next-state'";
    const SPEECH: &str = "family = 'diffusion'\ntime = 'mean-reverting'\nprediction = 'score'\ntheta = 1.5\n\
                          sigma_min = 0.05\nsigma_max = 0.5";

    fn parse(inputs: &str, sampling: &str) -> Result<Manifest, String> {
        let model = "[model]\nname = 'm'\nnetwork = 'm.onnx'\n";
        let text = format!("{model}{STATE}{inputs}\n[sampling]\n{sampling}\n[output]\nkind = 'tensor'\n");
        Manifest::parse(&text, "fewstep.toml").map_err(|error| error.to_string())
    }

    #[test]
    fn one_step_needs_no_time() {
        assert!(parse("", &format!("{FLOW}\nmax_steps = 1")).is_ok());
        assert!(parse("", FLOW).unwrap_err().contains("write `max_steps = 1`"));
    }

    #[test]
    fn updates_inside_the_network_need_the_number_of_the_step() {
        let (step, steps) = ("[inputs.i]\nrole = 'step'\n", "[inputs.n]\nrole = 'steps'\n");
        assert_eq!(parse(&format!("{step}{steps}"), STEPS).unwrap().sampling.sampler.name, "next-state");
        assert!(parse(steps, STEPS).unwrap_err().contains("the role \"step\""));
        let error = parse(&format!("{step}{TIME}"), FLOW).unwrap_err();
        assert!(error.contains("`i` has a `role` that only the prediction \"next-state\" uses"), "{error}");
        // No sampler adds a step of its own to what is the next state already.
        let error = parse(step, &format!("{STEPS}\nsampler = 'euler'")).unwrap_err();
        assert!(error.contains("cannot use the next state"), "{error}");
    }

    #[test]
    fn an_observation_is_as_long_as_the_state() {
        let prior = |shape: &str| format!("{TIME}[inputs.y]\nrole = 'condition'\nprior = true\n{shape}");
        assert!(parse(&prior("shape = [4]"), SPEECH).is_ok());
        assert!(parse(&prior("shape = [2, 2]"), FLOW).is_ok());
        assert!(parse(&prior(""), FLOW).unwrap_err().contains("of another length than the state"));
        assert!(parse(TIME, SPEECH).unwrap_err().contains("`prior = true`"));
        let error = parse(&prior("shape = [4]"), &FLOW.replace("'velocity'", "'x0'")).unwrap_err();
        assert!(error.contains("the prediction must be \"score\", \"epsilon\" or \"velocity\""), "{error}");
    }

    #[test]
    fn guidance_that_is_read_says_how() {
        let guidance = |keys: &str| format!("{TIME}[inputs.w]\nrole = 'guidance'\n{keys}");
        let encoding = |keys: &str| {
            let manifest = parse(&guidance(keys), FLOW).unwrap();
            assert_eq!(manifest.distilled_guidance(), Some("w"));
            manifest.conditions().next().and_then(|(_, condition)| condition.encoding)
        };
        assert_eq!(encoding("default = 3.5"), Some(Encoding::Scaled { scale: 1.0 }));
        assert_eq!(encoding("scale = 0.1"), Some(Encoding::Scaled { scale: 0.1 }));
        assert_eq!(encoding("encoding = 'excess'\nscale = 1000"), Some(Encoding::Excess { scale: 1000.0 }));
        assert_eq!(encoding("encoding = 'embedding'\nshape = [256]"), Some(Encoding::Embedding));
        for (keys, expected) in [
            ("encoding = 'reciprocal'\nscale = 2", "`scale` has no meaning here"),
            ("shape = [2]\ndefault = [1, 2]", "`default`"),
            ("negative = 1", "`negative` has no meaning here"),
        ] {
            let error = parse(&guidance(keys), FLOW).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = parse(&format!("{TIME}[inputs.c]\nrole = 'condition'\nscale = 2"), FLOW).unwrap_err();
        assert!(error.contains("only an input with the role \"guidance\" has it"), "{error}");
    }
}
