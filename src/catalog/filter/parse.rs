//! Reading an expression.

use ::console::measure_text_width;
use anyhow::{Error, Result};

use super::super::column::Kind;
use super::super::{Key, entry};
use super::{Comparison, Expression, Literal, allows, units};
use crate::user_error;

/// How many parentheses and `not`s may be within each other.
const MAX_DEPTH: usize = 50;

/// A piece of the text, and the bytes that it takes.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    kind: TokenKind,
    start: usize,
    end: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum TokenKind {
    /// A name, a value or a keyword.
    Word(String),
    /// A value in quotes.
    Quoted(String),
    Comparison(Comparison),
    Open,
    Close,
    /// What has no meaning.
    Other,
    End,
}

/// Reads an expression, the argument of `option`.
pub(super) fn parse(option: &str, text: &str) -> Result<Expression> {
    let mut parser = Parser {
        option,
        text,
        position: 0,
        depth: 0,
    };
    let expression = parser.any()?;
    let next = parser.peek()?;
    match next.kind {
        TokenKind::End => Ok(expression),
        TokenKind::Word(_) => Err(parser.unexpected(
            &next,
            "'and', 'or' or the end; a text with a space in it is quoted: state='stopped early'",
        )),
        _ => Err(parser.unexpected(&next, "'and', 'or' or the end")),
    }
}

struct Parser<'a> {
    option: &'a str,
    text: &'a str,
    position: usize,
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Expression> {
        self.joined("or", Self::all, Expression::Any)
    }

    fn all(&mut self) -> Result<Expression> {
        self.joined("and", Self::factor, Expression::All)
    }

    /// Parts with a keyword between them.
    fn joined(
        &mut self,
        keyword: &str,
        part: fn(&mut Self) -> Result<Expression>,
        join: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression> {
        let mut parts = vec![part(self)?];
        while self.take_keyword(keyword)? {
            parts.push(part(self)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => join(parts),
        })
    }

    fn factor(&mut self) -> Result<Expression> {
        let token = self.peek()?;
        if self.depth == MAX_DEPTH && (token.kind == TokenKind::Open || is_keyword(&token, "not")) {
            let want = format!("at most {MAX_DEPTH} within each other");
            return Err(self.unexpected(&token, &want));
        }
        self.depth += 1;
        let expression = if self.take_keyword("not")? {
            Expression::Not(Box::new(self.factor()?))
        } else if token.kind == TokenKind::Open {
            self.next()?;
            let inside = self.any()?;
            let close = self.next()?;
            if close.kind != TokenKind::Close {
                return Err(self.unexpected(&close, "')', 'and' or 'or'"));
            }
            inside
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn comparison(&mut self) -> Result<Expression> {
        let token = self.next()?;
        let TokenKind::Word(name) = &token.kind else {
            return Err(self.unexpected(&token, "a name"));
        };
        let key =
            Key::find(name).map_err(|problem| self.error(&token, &format!("{name}: {problem}")))?;
        let operator = self.next()?;
        let TokenKind::Comparison(comparison) = operator.kind else {
            return Err(self.unexpected(&operator, "a comparison, such as accuracy>0.7"));
        };
        if !allows(key.kind(), comparison) {
            let (want, what) = match key.kind() {
                Kind::List => ("=, !=, ~ or !~", "holds words"),
                Kind::Fields => ("=, !=, ~ or !~", "holds fields"),
                Kind::Flag => ("= or !=", "is true or false"),
                Kind::Bytes => ("=, !=, <, <=, > or >=", "is a size"),
                Kind::Duration => ("=, !=, <, <=, > or >=", "is a duration"),
                Kind::Time => ("=, !=, <, <=, > or >=", "is a time"),
                Kind::Number | Kind::Text => ("=, !=, <, <=, > or >=", "is a number"),
            };
            let want = format!("{want}, as {} {what}", key.name());
            return Err(self.unexpected(&operator, &want));
        }
        let mut value = self.next()?;
        let text = match &value.kind {
            TokenKind::Word(word) => word.clone(),
            TokenKind::Quoted(text) => {
                let text = text.clone();
                return Ok(Expression::Compare(
                    key,
                    comparison,
                    self.literal(key, &value, &text)?,
                ));
            }
            _ => return Err(self.unexpected(&value, "a value")),
        };
        // Some fields have a choice of that name, and always a value.
        let is_choice = matches!(key, Key::Field(field) if field.choices().contains(&"none"));
        let is_equality = [Comparison::Equal, Comparison::NotEqual].contains(&comparison);
        if text == "none" && is_equality && !is_choice {
            return Ok(Expression::Compare(key, comparison, Literal::None));
        }
        // `30 MiB`: a unit after a space.
        let mut text = text;
        let has_units = [Kind::Bytes, Kind::Duration].contains(&key.kind());
        if has_units && text.ends_with(|c: char| c.is_ascii_digit()) {
            let unit = self.peek()?;
            if let TokenKind::Word(word) = &unit.kind
                && !["and", "or"].contains(&word.to_lowercase().as_str())
            {
                text += word;
                value.end = unit.end;
                self.next()?;
            }
        }
        let literal = self.literal(key, &value, &text)?;
        Ok(Expression::Compare(key, comparison, literal))
    }

    /// The value that a text is, of the kind that the name has.
    fn literal(&self, key: Key, token: &Token, text: &str) -> Result<Literal> {
        let name = key.name();
        let found = |number: Option<f64>, want: &str| {
            number.map(Literal::Number).ok_or_else(|| {
                self.error(
                    token,
                    &format!("got '{text}', want {want}, as {name} is one"),
                )
            })
        };
        match key.kind() {
            Kind::Number => found(units::number(text), "a number"),
            Kind::Bytes => found(units::bytes(text), "a size such as 500MB"),
            Kind::Duration => found(units::seconds(text), "a duration such as 30d, 1h30m or 20s"),
            Kind::Time => found(
                units::time(text),
                "a time such as 2026-11-20 or 2026-11-20T08:00",
            ),
            Kind::Flag => match text {
                "true" => Ok(Literal::Flag(true)),
                "false" => Ok(Literal::Flag(false)),
                _ => Err(self.error(
                    token,
                    &format!("got '{text}', want true or false, as {name} is one"),
                )),
            },
            Kind::Text if name == "state" && !text.contains(['*', '?']) => {
                let state =
                    entry::state_named(text).map_err(|problem| self.error(token, &problem))?;
                Ok(Literal::Text(state))
            }
            Kind::Text | Kind::List | Kind::Fields => Ok(Literal::Text(text.to_owned())),
        }
    }

    fn take_keyword(&mut self, keyword: &str) -> Result<bool> {
        let token = self.peek()?;
        let is_it = is_keyword(&token, keyword);
        if is_it {
            self.next()?;
        } else if let TokenKind::Other = token.kind {
            let text = &self.text[token.start..token.end];
            let instead = [
                ("&", "and"),
                ("&&", "and"),
                ("|", "or"),
                ("||", "or"),
                ("!", "not"),
            ];
            if let Some((_, word)) = instead.iter().find(|(symbol, _)| *symbol == text) {
                return Err(self.unexpected(&token, &format!("'{word}'")));
            }
        }
        Ok(is_it)
    }

    fn peek(&mut self) -> Result<Token> {
        let before = self.position;
        let token = self.next();
        self.position = before;
        token
    }

    fn next(&mut self) -> Result<Token> {
        let rest = &self.text[self.position..];
        let trimmed = rest.trim_start();
        let start = self.position + rest.len() - trimmed.len();
        let (kind, length) = match token(trimmed) {
            Ok(found) => found,
            Err(quote) => {
                let token = Token {
                    kind: TokenKind::Other,
                    start,
                    end: self.text.len(),
                };
                let message = format!("got a text that does not end, want {quote} at its end");
                return Err(self.error(&token, &message));
            }
        };
        self.position = start + length;
        Ok(Token {
            kind,
            start,
            end: start + length,
        })
    }

    fn unexpected(&self, token: &Token, want: &str) -> Error {
        let found = match token.kind {
            TokenKind::End => "the end".to_owned(),
            _ => format!("'{}'", &self.text[token.start..token.end]),
        };
        self.error(token, &format!("got {found}, want {want}"))
    }

    /// The message, and the expression with a mark under the token.
    fn error(&self, token: &Token, message: &str) -> Error {
        // In one line, whatever it has.
        let line = |text: &str| text.replace(char::is_control, " ");
        let before = measure_text_width(&line(&self.text[..token.start]));
        let marked = measure_text_width(&line(&self.text[token.start..token.end])).max(1);
        user_error!(
            "{}: {message}\n  {}\n  {}{}",
            self.option,
            line(self.text),
            " ".repeat(before),
            "^".repeat(marked)
        )
    }
}

fn is_keyword(token: &Token, keyword: &str) -> bool {
    matches!(&token.kind, TokenKind::Word(word) if word.eq_ignore_ascii_case(keyword))
}

/// The token at the beginning of a text, and its length in bytes; the quote of a text in quotes that does not end.
fn token(text: &str) -> Result<(TokenKind, usize), char> {
    let Some(first) = text.chars().next() else {
        return Ok((TokenKind::End, 0));
    };
    let comparisons = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("!~", Comparison::NotLike),
        ("=", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::More),
        ("~", Comparison::Like),
    ];
    if let Some((symbol, comparison)) = comparisons.iter().find(|(it, _)| text.starts_with(it)) {
        return Ok((TokenKind::Comparison(*comparison), symbol.len()));
    }
    match first {
        '(' => return Ok((TokenKind::Open, 1)),
        ')' => return Ok((TokenKind::Close, 1)),
        '\'' | '"' => {
            let end = text[1..].find(first).ok_or(first)?;
            return Ok((TokenKind::Quoted(text[1..=end].to_owned()), end + 2));
        }
        _ => {}
    }
    let of_word = |c: char| !c.is_whitespace() && !"()=<>!~'\",&|".contains(c);
    let end = text.find(|c| !of_word(c)).unwrap_or(text.len());
    if end > 0 {
        return Ok((TokenKind::Word(text[..end].to_owned()), end));
    }
    let symbols = ["&&", "||"]
        .iter()
        .find(|symbol| text.starts_with(**symbol));
    Ok((
        TokenKind::Other,
        symbols.map_or(first.len_utf8(), |it| it.len()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_words_texts_and_symbols() {
        let word = |text: &str| TokenKind::Word(text.to_owned());
        for (text, kind, length) in [
            ("a.b<1", word("a.b"), 3),
            ("1e-3)", word("1e-3"), 4),
            ("lr-*", word("lr-*"), 4),
            ("2026-11-20T08:00", word("2026-11-20T08:00"), 16),
            ("<=1", TokenKind::Comparison(Comparison::AtMost), 2),
            ("'a \"b'c", TokenKind::Quoted("a \"b".to_owned()), 6),
            ("\"\"", TokenKind::Quoted(String::new()), 2),
            ("&&x", TokenKind::Other, 2),
            ("!x", TokenKind::Other, 1),
            ("", TokenKind::End, 0),
        ] {
            assert_eq!(token(text), Ok((kind, length)), "{text}");
        }
        assert_eq!(token("'a"), Err('\''));
    }
}
