//! Image bytes in, decoded RGB pixels out.
