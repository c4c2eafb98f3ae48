//! The names of the classes as pictures show them.

use super::text::Font;

/// What stands for each class in pictures: its name, or its number where no font has all letters of the names.
pub struct ClassLabels {
    pub(super) font: Font,
    /// By class.
    texts: Vec<String>,
    /// What the numbers stand for.
    legend: Option<String>,
}

impl ClassLabels {
    /// The labels of classes with these names. A font of the system is looked for if the built-in one lacks letters.
    pub fn new(names: &[String]) -> Self {
        Self::drawn_with(Font::covering(names), names)
    }

    fn drawn_with(font: Option<Font>, names: &[String]) -> Self {
        match font {
            Some(font) => ClassLabels {
                font,
                texts: names.to_vec(),
                legend: None,
            },
            // Of all classes: beside names, a number could be taken for one.
            None => ClassLabels {
                font: Font::default(),
                texts: (0..names.len()).map(|class| class.to_string()).collect(),
                legend: Some(legend(names)),
            },
        }
    }

    /// What the labels stand for, in Markdown; `None` if they are the names.
    pub fn legend(&self) -> Option<&str> {
        self.legend.as_deref()
    }

    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }
}

/// Numbers and names, fenced because names may have letters that mean something in Markdown.
fn legend(names: &[String]) -> String {
    let lines = names.iter().enumerate();
    let lines: Vec<String> = lines
        .map(|(class, name)| format!("{class} {name}"))
        .collect();
    format!("```\n{}\n```", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_names_where_a_font_has_their_letters() {
        let labels = ClassLabels::new(&["cat", "Größe"].map(String::from));
        assert_eq!(labels.texts(), ["cat", "Größe"]);
        assert_eq!(labels.legend(), None);
    }

    #[test]
    fn labels_are_numbers_with_a_legend_where_no_font_has_the_letters() {
        let names = ["cat", "飞机"].map(String::from);
        let labels = ClassLabels::drawn_with(None, &names);
        assert_eq!(labels.texts(), ["0", "1"]);
        assert_eq!(labels.legend(), Some("```\n0 cat\n1 飞机\n```"));
        // Arabic letters join, whatever the fonts.
        let labels = ClassLabels::new(&["طائرة".to_owned()]);
        assert_eq!(labels.legend(), Some("```\n0 طائرة\n```"));
    }
}
