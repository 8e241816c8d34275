//! The attribute `#[millstream_plugin::handler]`: makes a component of a function.
//!
//! It checks what can be seen of the function's signature, so that a mistake is told at its place
//! and in its own words; types are left to the compiler, which tells of them at the same place.
//! Use it through `millstream-plugin`, which documents it by example.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, Ident, ItemFn, Path, ReturnType, Signature, Token, Type, parse_macro_input,
};

/// Makes the function the record handler of this component.
///
/// - `#[handler]` on `fn(Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>`
/// - `#[handler(init = init)]` on `fn(&mut State, Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>`,
///   where `init` is a `fn(&Context) -> Result<State, E>` and `E` can be displayed. It is called once,
///   when the worker starts; its error keeps the worker from starting.
/// - `timer = on_timer` beside it: what is called by timers, a
///   `fn(&mut State, Timer<'_>, &mut Outputs<'_>) -> Result<(), Failure>`, without the state where the
///   handler has none. A plugin that sets timers has one.
/// - `migrate = migrate`: what takes over the state that another version of the plugin has left behind, a
///   `fn(&Context, previous: &str, cursor: Option<&[u8]>) -> Result<Option<Vec<u8>>, E>`, where `E` can be
///   displayed. It is called after an upgrade, or a roll-back, before any record: with the digest of the
///   component whose state it is, and with what the call before returned, until it returns `None`. Each
///   call counts once.
///
/// The function stays as it is, to be called by tests. A component has one handler.
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as Arguments);
    let function = parse_macro_input!(item as ItemFn);
    let export = expand(&arguments, &function.sig).unwrap_or_else(Error::into_compile_error);
    quote!(#function #export).into()
}

/// `init = path`, `timer = path`, `migrate = path`: each of them or not.
#[derive(Default)]
struct Arguments {
    init: Option<Path>,
    timer: Option<Path>,
    migrate: Option<Path>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            let known = match name.to_string().as_str() {
                "init" => &mut arguments.init,
                "timer" => &mut arguments.timer,
                "migrate" => &mut arguments.migrate,
                _ => {
                    let message = "unknown argument: `init = <function>`, `timer = <function>` and \
                                   `migrate = <function>` are known";
                    return Err(Error::new(name.span(), message));
                }
            };
            if known.is_some() {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
            input.parse::<Token![=]>()?;
            *known = Some(input.parse()?);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

fn expand(arguments: &Arguments, signature: &Signature) -> syn::Result<Tokens> {
    check_plain(signature)?;
    let handle = &signature.ident;
    let span = signature.inputs.span();
    // Names that cannot hide the author's.
    let (plugin, init, call) = match (&arguments.init, state(signature)?) {
        (None, None) => {
            let plugin = quote!(
                struct __MillstreamPlugin;
            );
            let init = quote!(::core::result::Result::Ok(Self));
            (
                plugin,
                init,
                quote_spanned!(span=> #handle(__record, __out)),
            )
        }
        (Some(init), Some(state)) => {
            let plugin = quote!(struct __MillstreamPlugin(#state););
            let init = quote_spanned! {init.span()=>
                match #init(__context) {
                    ::core::result::Result::Ok(__state) => ::core::result::Result::Ok(Self(__state)),
                    ::core::result::Result::Err(__error) => {
                        ::core::result::Result::Err(::std::string::ToString::to_string(&__error))
                    }
                }
            };
            (
                plugin,
                init,
                quote_spanned!(span=> #handle(&mut self.0, __record, __out)),
            )
        }
        (None, Some(state)) => {
            let message =
                "a handler with a state needs an init function: `#[handler(init = init)]`";
            return Err(Error::new(state.span(), message));
        }
        (Some(init), None) => {
            let message = "what init returns is the handler's first argument: \
                           `fn(&mut State, Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>`";
            return Err(Error::new(init.span(), message));
        }
    };
    let on_timer = arguments.timer.as_ref().map(|timer| {
        let call = match &arguments.init {
            Some(_) => quote_spanned!(timer.span()=> #timer(&mut self.0, __timer, __out)),
            None => quote_spanned!(timer.span()=> #timer(__timer, __out)),
        };
        quote! {
            fn on_timer(
                &mut self,
                __timer: ::millstream_plugin::timers::Timer<'_>,
                __out: &mut ::millstream_plugin::Outputs<'_>,
            ) -> ::core::result::Result<(), ::millstream_plugin::Failure> {
                #call
            }
        }
    });
    let migrate = arguments.migrate.as_ref().map(|migrate| {
        quote_spanned! {migrate.span()=>
            fn migrate(
                __context: &::millstream_plugin::Context,
                __from: &str,
                __cursor: ::core::option::Option<&[u8]>,
            ) -> ::core::result::Result<
                ::core::option::Option<::std::vec::Vec<u8>>,
                ::std::string::String,
            > {
                match #migrate(__context, __from, __cursor) {
                    ::core::result::Result::Ok(__cursor) => ::core::result::Result::Ok(__cursor),
                    ::core::result::Result::Err(__error) => {
                        ::core::result::Result::Err(::std::string::ToString::to_string(&__error))
                    }
                }
            }
        }
    });
    let component = component(arguments);
    Ok(quote! {
        const _: () = {
            #plugin

            impl ::millstream_plugin::__private::Plugin for __MillstreamPlugin {
                fn init(
                    __context: &::millstream_plugin::Context,
                ) -> ::core::result::Result<Self, ::std::string::String> {
                    #init
                }

                fn handle(
                    &mut self,
                    __record: ::millstream_plugin::Record<'_>,
                    __out: &mut ::millstream_plugin::Outputs<'_>,
                ) -> ::core::result::Result<(), ::millstream_plugin::Failure> {
                    #call
                }

                #on_timer

                #migrate
            }

            #component
        };
    })
}

/// The exports. Natively there are none: the handler is checked, and called by tests alone.
fn component(arguments: &Arguments) -> Tokens {
    let export_timers = arguments.timer.as_ref().map(|_| {
        quote! {
            #[cfg(target_arch = "wasm32")]
            ::millstream_plugin::__private::export_timers!(
                __MillstreamExports with_types_in ::millstream_plugin::__private::bindings::timed
            );
        }
    });
    let export_migration = arguments.migrate.as_ref().map(|_| {
        quote! {
            #[cfg(target_arch = "wasm32")]
            ::millstream_plugin::__private::export_migration!(
                __MillstreamExports with_types_in ::millstream_plugin::__private::bindings::migrating
            );
        }
    });
    quote! {
        #[cfg(target_arch = "wasm32")]
        ::std::thread_local! {
            static __MILLSTREAM_WORKER: ::core::cell::RefCell<
                ::core::option::Option<::millstream_plugin::__private::Worker<__MillstreamPlugin>>,
            > = const { ::core::cell::RefCell::new(::core::option::Option::None) };
        }

        #[cfg(target_arch = "wasm32")]
        impl ::millstream_plugin::__private::Slot for __MillstreamPlugin {
            fn with<R>(
                access: impl ::core::ops::FnOnce(
                    &::core::cell::RefCell<
                        ::core::option::Option<::millstream_plugin::__private::Worker<Self>>,
                    >,
                ) -> R,
            ) -> R {
                __MILLSTREAM_WORKER.with(access)
            }
        }

        #[cfg(target_arch = "wasm32")]
        type __MillstreamExports = ::millstream_plugin::__private::Exports<__MillstreamPlugin>;

        #[cfg(target_arch = "wasm32")]
        ::millstream_plugin::__private::export!(
            __MillstreamExports with_types_in ::millstream_plugin::__private::bindings
        );

        #export_timers

        #export_migration
    }
}

/// Refuses what no handler can be.
fn check_plain(signature: &Signature) -> syn::Result<()> {
    if let Some(asyncness) = &signature.asyncness {
        return Err(Error::new(
            asyncness.span(),
            "a handler is synchronous: remove `async`",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(
            signature.generics.span(),
            "a handler has no generic parameters",
        ));
    }
    if let ReturnType::Default = signature.output {
        return Err(Error::new(
            signature.ident.span(),
            "a handler returns `Result<(), Failure>`",
        ));
    }
    Ok(())
}

/// The type of the state, if the handler has one.
fn state(signature: &Signature) -> syn::Result<Option<&Type>> {
    let mut types = Vec::new();
    for input in &signature.inputs {
        match input {
            FnArg::Receiver(receiver) => {
                return Err(Error::new(
                    receiver.span(),
                    "a handler is a plain function, not a method",
                ));
            }
            FnArg::Typed(argument) => types.push(argument.ty.as_ref()),
        }
    }
    match types[..] {
        [_record, _out] => Ok(None),
        [Type::Reference(state), _record, _out] if state.mutability.is_some() => {
            Ok(Some(&state.elem))
        }
        [state, _record, _out] => Err(Error::new(
            state.span(),
            "the state is handed over as `&mut State`",
        )),
        _ => {
            let message = "a handler is `fn(Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>`, \
                           with `&mut State` in front where it has an init function";
            Err(Error::new(signature.ident.span(), message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arguments: &str, function: &str) -> syn::Result<String> {
        let arguments: Arguments = syn::parse_str(arguments)?;
        let function: ItemFn = syn::parse_str(&format!("{function} {{}}"))?;
        expand(&arguments, &function.sig).map(|tokens| tokens.to_string())
    }

    fn check_refused(arguments: &str, function: &str, expect: &str) {
        assert_eq!(
            expanded(arguments, function).unwrap_err().to_string(),
            expect
        );
    }

    #[test]
    fn a_handler_with_and_without_a_state_is_taken() {
        expanded(
            "",
            "fn handle(record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure>",
        )
        .unwrap();
        let with = expanded(
            "init = worker::init",
            "fn on(w: &mut Worker, r: Record<'_>, o: &mut Outputs<'_>) -> Done",
        );
        let with = with.unwrap();
        assert!(with.contains("worker :: init (__context)"), "{with}");
        assert!(
            with.contains("on (& mut self . 0 , __record , __out)"),
            "{with}"
        );
    }

    #[test]
    fn what_no_handler_can_be_is_told_in_its_own_words() {
        let plain = "a handler is `fn(Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>`, \
                     with `&mut State` in front where it has an init function";
        check_refused("", "fn handle() -> R", plain);
        check_refused("", "fn handle(a: A, b: B, c: C, d: D) -> R", plain);
        check_refused(
            "",
            "async fn handle(r: A, o: B) -> R",
            "a handler is synchronous: remove `async`",
        );
        check_refused(
            "",
            "fn handle<T>(r: A, o: B) -> R",
            "a handler has no generic parameters",
        );
        check_refused(
            "",
            "fn handle(r: A, o: B)",
            "a handler returns `Result<(), Failure>`",
        );
        check_refused(
            "",
            "fn handle(&self, r: A, o: B) -> R",
            "a handler is a plain function, not a method",
        );
    }

    #[test]
    fn a_state_and_its_init_belong_together() {
        let needs_init = "a handler with a state needs an init function: `#[handler(init = init)]`";
        check_refused("", "fn handle(s: &mut S, r: A, o: B) -> R", needs_init);
        check_refused(
            "init = init",
            "fn handle(s: S, r: A, o: B) -> R",
            "the state is handed over as `&mut State`",
        );
        let needs_state = "what init returns is the handler's first argument: \
                           `fn(&mut State, Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>`";
        check_refused("init = init", "fn handle(r: A, o: B) -> R", needs_state);
        check_refused(
            "start = init",
            "fn handle(r: A, o: B) -> R",
            "unknown argument: `init = <function>`, `timer = <function>` and `migrate = <function>` are known",
        );
        check_refused(
            "init = a, init = b",
            "fn handle(s: &mut S, r: A, o: B) -> R",
            "`init` is given twice",
        );
    }

    #[test]
    fn a_function_for_timers_is_exported_where_there_is_one() {
        let function = "fn handle(r: A, o: B) -> R";
        let without = expanded("", function).unwrap();
        assert!(!without.contains("export_timers"), "{without}");
        let with = expanded("timer = late", function).unwrap();
        assert!(with.contains("export_timers"), "{with}");
        assert!(with.contains("late (__timer , __out)"), "{with}");
        let stateful = expanded(
            "timer = late, init = init,",
            "fn handle(s: &mut S, r: A, o: B) -> R",
        );
        let stateful = stateful.unwrap();
        assert!(
            stateful.contains("late (& mut self . 0 , __timer , __out)"),
            "{stateful}"
        );
    }
}
