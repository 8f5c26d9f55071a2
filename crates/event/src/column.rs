//! Columns under construction: values are set in any order, kept or taken back row by row.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, ArrowPrimitiveType, DictionaryArray, Int32Array, NullBufferBuilder,
        PrimitiveArray, StringArray,
    },
    buffer::{Buffer, OffsetBuffer, ScalarBuffer},
    datatypes::Int32Type,
};
use hashbrown::HashMap;

/// Text. The value of the current row is appended in place and cut off if the row is taken back.
pub(crate) struct TextColumn {
    data: Vec<u8>,
    /// Ends of the kept values, after a leading 0.
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
    is_set: bool,
}

impl TextColumn {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { data: Vec::new(), offsets, validity: NullBufferBuilder::new(rows), is_set: false }
    }

    fn row_start(&self) -> usize {
        self.offsets.last().map_or(0, |end| *end as usize)
    }

    pub(crate) fn set(&mut self, text: &str) {
        self.open().extend_from_slice(text.as_bytes());
    }

    /// The buffer to append the current row's value to, from the value's start.
    pub(crate) fn open(&mut self) -> &mut Vec<u8> {
        let start = self.row_start();
        self.data.truncate(start);
        self.is_set = true;
        &mut self.data
    }

    /// The buffer to go on appending the current row's value to.
    pub(crate) fn reopen(&mut self) -> &mut Vec<u8> {
        self.is_set = true;
        &mut self.data
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set
    }

    /// Whether the current row's value would take the column beyond what it can hold.
    pub(crate) fn is_overfull(&self) -> bool {
        i32::try_from(self.data.len()).is_err()
    }

    pub(crate) fn keep_row(&mut self) {
        self.offsets.push(i32::try_from(self.data.len()).expect("a batch stays under 2 GiB"));
        self.validity.append(self.is_set);
        self.is_set = false;
    }

    pub(crate) fn drop_row(&mut self) {
        let start = self.row_start();
        self.data.truncate(start);
        self.is_set = false;
    }

    pub(crate) fn finish(mut self) -> ArrayRef {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let nulls = self.validity.finish();
        let array = StringArray::try_new(offsets, Buffer::from_vec(self.data), nulls);
        Arc::new(array.expect("only whole UTF-8 values are appended"))
    }
}

/// Text of few distinct values, dictionary-encoded.
pub(crate) struct FewColumn {
    keys: Vec<i32>,
    validity: NullBufferBuilder,
    values: Vec<Box<str>>,
    key_of: HashMap<Box<str>, i32>,
    current: Option<i32>,
    /// Key of the value set last: neighbours are often equal.
    last: Option<i32>,
}

impl FewColumn {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            keys: Vec::with_capacity(rows),
            validity: NullBufferBuilder::new(rows),
            values: Vec::new(),
            key_of: HashMap::new(),
            current: None,
            last: None,
        }
    }

    pub(crate) fn set(&mut self, text: &str) {
        let key = match self.last {
            Some(last) if &*self.values[last as usize] == text => last,
            _ => self.key(text),
        };
        (self.current, self.last) = (Some(key), Some(key));
    }

    fn key(&mut self, text: &str) -> i32 {
        if let Some(key) = self.key_of.get(text) {
            return *key;
        }
        let key = i32::try_from(self.values.len()).expect("a batch has fewer than 2³¹ values");
        self.values.push(text.into());
        self.key_of.insert(text.into(), key);
        key
    }

    pub(crate) fn get(&self) -> Option<&str> {
        self.current.map(|key| &*self.values[key as usize])
    }

    pub(crate) fn keep_row(&mut self) {
        self.keys.push(self.current.unwrap_or(0));
        self.validity.append(self.current.is_some());
        self.current = None;
    }

    pub(crate) fn drop_row(&mut self) {
        self.current = None;
    }

    pub(crate) fn finish(mut self) -> ArrayRef {
        if self.values.is_empty() {
            // Keys of null rows must point somewhere.
            self.values.push("".into());
        }
        let keys = Int32Array::new(ScalarBuffer::from(self.keys), self.validity.finish());
        let values = StringArray::from_iter_values(self.values);
        let array = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values));
        Arc::new(array.expect("every key was made for a value"))
    }
}

/// Numbers.
pub(crate) struct NumberColumn<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    validity: NullBufferBuilder,
    current: Option<T::Native>,
}

impl<T: ArrowPrimitiveType> NumberColumn<T> {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            values: Vec::with_capacity(rows),
            validity: NullBufferBuilder::new(rows),
            current: None,
        }
    }

    pub(crate) fn set(&mut self, value: T::Native) {
        self.current = Some(value);
    }

    pub(crate) fn get(&self) -> Option<T::Native> {
        self.current
    }

    pub(crate) fn keep_row(&mut self) {
        self.values.push(self.current.unwrap_or_default());
        self.validity.append(self.current.is_some());
        self.current = None;
    }

    pub(crate) fn drop_row(&mut self) {
        self.current = None;
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn finish(mut self) -> PrimitiveArray<T> {
        PrimitiveArray::new(ScalarBuffer::from(self.values), self.validity.finish())
    }
}
