//! Values by small number: the place of every table of things in flight.
//!
//! A number is used again after its value was taken out; whoever needs to tell generations apart
//! does so himself.

/// A table whose keys are chosen by the table.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Puts the value in and says where.
    pub(super) fn insert(&mut self, value: T) -> usize {
        if let Some(key) = self.free.pop() {
            self.places[key] = Some(value);
            return key;
        }
        self.places.push(Some(value));
        self.places.len() - 1
    }

    /// Takes the value out.
    pub(super) fn remove(&mut self, key: usize) -> Option<T> {
        let value = self.places.get_mut(key)?.take()?;
        self.free.push(key);
        Some(value)
    }

    pub(super) fn get(&self, key: usize) -> Option<&T> {
        self.places.get(key)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.places.get_mut(key)?.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }

    /// One more than the largest key: for loops that change the table as they go.
    pub(super) fn bound(&self) -> usize {
        self.places.len()
    }
}
